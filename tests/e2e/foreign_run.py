#!/usr/bin/env python3
"""foreign_run.py MDLM SOURCES FOLDER STRUCTURED RANDOM [SEED] — every reader of mdlm on the files of foreign.py.

SOURCES holds the good files and DECK.cfg. A reader must end with code 0, or with one error line that names the file or
the item, and a code for it; without a crash, within its CPU seconds and without memory for what the file only claims to
hold. A file that is wrong in an item which the reader needs must be refused. What is not so is printed; the last line
counts."""

from __future__ import annotations

import os
import re
import resource
import shutil
import subprocess
import sys
from collections import Counter

from foreign import KINDS, make, sources

CPU, ELAPSED, RESIDENT = 12, 300, 600  # seconds, seconds, MiB
ENDS = range(2, 11)  # the codes of errors: src/base/err.h
TRACES = ("Sanitizer", "HDF5-DIAG", "bug in mdlm", "egmentation", "runtime error")

# What a reader gets beside the deck; FILE is the file.
READERS = {
    "data": {"info": ["info", "FILE"], "train": ["train", "DECK", "run.dir=NEW", "train.steps=1", "data.train=FILE"],
             "eval": ["eval", "DECK", "eval.data=FILE", "eval.sequences=4", "eval.output=OUT"],
             "check": ["check", "DECK", "run.dir=NEW", "data.train=FILE", "data.valid="],
             "score": ["score", "DECK", "score.checkpoint=JUDGE", "score.input=FILE", "score.output=OUT"],
             "prompts": ["sample", "DECK", "sample.steps=2", "sample.prompt=FILE", "sample.output=OUT"]},
    "checkpoint": {"info": ["info", "FILE"], "deck": ["info", "--deck", "FILE"],
                   "eval": ["eval", "DECK", "eval.checkpoint=FILE", "eval.sequences=4", "eval.output=OUT"],
                   "sample": ["sample", "DECK", "sample.steps=2", "sample.checkpoint=FILE", "sample.output=OUT"],
                   "logits": ["logits", "DECK", "logits.checkpoint=FILE", "logits.input=INPUT", "logits.output=OUT"],
                   "init": ["train", "DECK", "run.dir=NEW", "train.steps=1", "run.init=FILE"],
                   "resume": ["train", "DECK", "run.dir=RUN", "train.steps=7"]},
    "metrics": {"info": ["info", "FILE"], "deck": ["info", "--deck", "FILE"]},
    "samples": {"info": ["info", "FILE"],
                "score": ["score", "DECK", "score.checkpoint=JUDGE", "score.input=FILE", "score.output=OUT"]},
    "eval": {"info": ["info", "FILE"], "compare": ["compare", "FILE", "EVAL"]},
    "sweep": {"info": ["info", "FILE"]},
    "prompts": {"prompts": ["sample", "DECK", "sample.steps=2", "sample.prompt=FILE", "sample.output=OUT"]},
    "logits": {"logits": ["logits", "DECK", "logits.input=FILE", "logits.output=OUT"]},
}  # fmt: skip

# What a reader needs: items as foreign.py names them, DATA SET or OWNER@ATTRIBUTE.
DATA = "tokens|lengths|vocab/|vocab@|@(format|digest|wrap|detokenizer|source|split)"
CHECKPOINT = "params/.*@xxh3|vocab|@(format|step|sequences|tokens|masked_tokens|length|deck|git|data_digest|valid_nll)"
VALUES = "loss|tokens|square|@(format|draws|wrap|deck)"
NEEDS = {
    ("data", ""): DATA, ("data", "score"): "tokens |lengths|vocab", ("data", "prompts"): "tokens |lengths|vocab@hash",
    ("checkpoint", ""): CHECKPOINT, ("checkpoint", "info"): CHECKPOINT + "|(params|ema|adam_.|metrics)/.* ",
    ("checkpoint", "eval"): CHECKPOINT + "|ema/", ("checkpoint", "sample"): CHECKPOINT + "|ema/",
    ("checkpoint", "resume"): CHECKPOINT + "|(params|ema|adam_.|metrics)/.* ", ("checkpoint", "deck"): "@deck",
    ("metrics", "info"): "(train|valid)/.* |@format ", ("metrics", "deck"): "@deck",
    ("samples", "score"): "tokens |@tokenizer", ("samples", "info"): "tokens |entropy|@format ",
    ("eval", ""): VALUES, ("sweep", "info"): "cells/.* |pairs|@format ",
    ("prompts", ""): "tokens |lengths ", ("logits", ""): "z |t |length ",
}  # fmt: skip


def limits() -> None:
    resource.setrlimit(resource.RLIMIT_CPU, (CPU, CPU))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


class Runner:
    def __init__(self, mdlm: str, good: str, base: str) -> None:
        self.mdlm, self.base = mdlm, base
        self.words = {"DECK": f"{good}/deck.cfg", "JUDGE": f"{good}/judge.h5", "INPUT": f"{base}/logits.h5",
                      "EVAL": f"{base}/eval.h5", "OUT": f"{base}/out.h5", "NEW": f"{base}/new",
                      "RUN": f"{base}/run"}  # fmt: skip

    def argument(self, word: str, path: str) -> str:
        key, equal, value = word.rpartition("=")
        value = path if value == "FILE" else self.words.get(value, value)
        return key + equal + value

    def run(self, words: list[str], path: str) -> tuple[int, str, float]:
        """Exit code (negative: the signal), stderr and the resident set in MiB."""
        for place in ("new", "run"):
            shutil.rmtree(f"{self.base}/{place}", ignore_errors=True)
        for left in ("out.h5", "out.h5.part"):
            if os.path.exists(f"{self.base}/{left}"):
                os.remove(f"{self.base}/{left}")
        if "run.dir=RUN" in words:
            os.makedirs(f"{self.base}/run")
            shutil.copy(path, f"{self.base}/run/last.h5")
        with open(f"{self.base}/err", "w+b") as err:
            p = subprocess.Popen([self.mdlm] + [self.argument(w, path) for w in words], stdin=subprocess.DEVNULL,
                                 stdout=subprocess.DEVNULL, stderr=err, preexec_fn=limits)  # fmt: skip
            try:
                p.wait(ELAPSED)
            except subprocess.TimeoutExpired:
                p.kill()
                p.wait()
            err.seek(0)
            return p.returncode, err.read().decode(errors="replace"), 0.0


def verdict(code: int, err: str, must: bool, path: str) -> str:
    """"" if the reader behaved."""
    lines = [line for line in err.splitlines() if line.startswith("mdlm: error")]
    if code < 0:
        return "hang" if code in (-24, -9) else f"crash, signal {-code}"
    if any(t in err for t in TRACES) or code not in (0, *ENDS):
        return f"crash, code {code}"
    if code == 0:
        return "silent" if must and not lines else ""
    if len(lines) != 1:
        return f"{len(lines)} error lines"
    named = (os.path.basename(path), "last.h5", "run.dir")
    return "" if any(n in lines[0] for n in named) else "names no file"


def main() -> None:
    mdlm, good, base = sys.argv[1:4]
    n_structured, n_random = int(sys.argv[4]), int(sys.argv[5])
    seed = int(sys.argv[6]) if len(sys.argv) > 6 else 1
    kinds = os.environ.get("KINDS", "").split() or list(KINDS)
    sources(good, base)
    runner = Runner(mdlm, good, base)
    counts: Counter[str] = Counter()
    for kind, klass, what, path in make(base, n_structured, n_random, seed):
        if kind in kinds:
            counts["files"] += 1
        for reader, words in READERS[kind].items() if kind in kinds else ():
            code, err, _ = runner.run(words, path)
            counts["readings"] += 1
            counts["refused"] += code != 0
            needed = re.match(NEEDS.get((kind, reader)) or NEEDS.get((kind, ""), "$"), what)
            bad = verdict(code, err, klass == "must" and needed is not None, path)
            if os.environ.get("VERBOSE"):
                print(f"{code}\t{kind}\t{reader}\t{what}\t{[x for x in err.splitlines() if 'error' in x][:1]}", flush=True)
            if bad:
                counts[bad] += 1
                first = [line for line in err.splitlines() if line.strip()][:12]
                print(f"{bad}\t{kind}\t{reader}\t{what}\t{' | '.join(first)[:700]}", flush=True)
        os.remove(path)
    print(", ".join(f"{n} {what}" for what, n in counts.items()))


if __name__ == "__main__":
    main()
