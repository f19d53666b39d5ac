#!/usr/bin/env python3
"""foreign_run.py MDLM SOURCES FOLDER STRUCTURED RANDOM [SEED] — the readers of mdlm on the files of foreign.py.

SOURCES holds the good files, deck.cfg, and sweep.cfg with the folder cells. A reader must end with code 0, or with one
error line that names the file and a code for it, without a crash and within its CPU seconds. A file that is wrong in an
item which the reader needs must be refused. What is not so is printed; the last line counts.
Variables: KINDS, the kinds of files, all by default; EACH=1, every file goes through each of its readers, not through one
of them."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections import Counter

from foreign import KINDS, make, sources

CPU, ELAPSED = 12, 300  # seconds
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
    "eval": {"info": ["info", "FILE"], "compare": ["compare", "FILE", "EVAL"],
             "sweep": ["sweep", "SWEEP", "sweep.action=table", "sweep.dir=CELLS"]},
    "profile": {"info": ["info", "FILE"]},
    "sweep": {"info": ["info", "FILE"]},
    "prompts": {"prompts": ["sample", "DECK", "sample.steps=2", "sample.prompt=FILE", "sample.output=OUT"]},
    "requests": {"info": ["info", "FILE"],
                 "likelihood": ["likelihood", "DECK", "likelihood.requests=FILE", "likelihood.output=OUT"]},
    "logits": {"logits": ["logits", "DECK", "logits.input=FILE", "logits.output=OUT"]},
}  # fmt: skip

# What a reader needs: items as foreign.py names them, DATA SET or OWNER@ATTRIBUTE.
VOCAB = "vocab/(bytes|offsets) |vocab@"
DATA = "tokens |lengths |label |label@classes |@(format|digest|wrap|detokenizer|source|split) |" + VOCAB
STATE = "@(format|step|sequences|tokens|masked_tokens|length|deck|git|data_digest|valid_nll) |" + VOCAB
STATE += "|params/.*@xxh3|mixture.*@"
WHOLE = STATE + "|(params|ema|adam_.)/[^@]* |metrics/[^@]* (?!no_rows)"
BINS = "(share|position|frequency|distance|calibration)/(tokens|accuracy|confidence) "
NEEDS = {
    ("data", ""): DATA,
    ("data", "score"): "tokens |lengths |" + VOCAB,
    ("data", "prompts"): "tokens |lengths |vocab@hash",
    ("checkpoint", ""): STATE,
    ("checkpoint", "info"): WHOLE,
    ("checkpoint", "eval"): STATE + "|ema/[^@]* ",
    ("checkpoint", "sample"): STATE + "|ema/[^@]* ",
    ("checkpoint", "resume"): WHOLE.replace("metrics/", "metrics/(?!train/sequences_)"),  # of sets that the deck lacks
    ("checkpoint", "deck"): "@deck",
    ("metrics", "info"): "(train|valid)/[^@]* |@format ",
    ("metrics", "deck"): "@deck",
    ("samples", "score"): "tokens |@tokenizer",
    ("samples", "info"): "tokens |entropy |@format ",
    ("eval", ""): "loss |tokens |square |@(format|draws|wrap|deck) ",
    ("eval", "sweep"): "loss |tokens |square |@(draws|wrap|deck|seconds) ",
    ("profile", "info"): BINS + "|residual/rms |loss |tokens |square |@(format|draws|wrap|deck|ece|variance_rows) ",
    ("sweep", "info"): "cells/[^@]* (?!(fixed_)?strings)|@format ",
    ("prompts", ""): "tokens |lengths ",
    ("requests", "info"): "requests/[^@]* (?!(fixed_)?strings|no_rows)|@format ",
    ("requests", "likelihood"): "requests/(tokens|offset|context_length|target_length) |@tokenizer",
    ("logits", ""): "z |t |length ",
}


class Runner:
    def __init__(self, mdlm: str, good: str, base: str) -> None:
        self.mdlm, self.base = mdlm, base
        self.cell = os.listdir(f"{good}/cells")[0]
        self.words = {"DECK": f"{good}/deck.cfg", "JUDGE": f"{good}/judge.h5", "INPUT": f"{base}/logits.h5",
                      "EVAL": f"{base}/eval.h5", "OUT": f"{base}/out.h5", "NEW": f"{base}/new",
                      "RUN": f"{base}/run", "CELLS": f"{base}/sweep", "SWEEP": f"{good}/sweep.cfg"}  # fmt: skip

    def argument(self, word: str, path: str) -> str:
        key, equal, value = word.rpartition("=")
        value = path if value == "FILE" else self.words.get(value, value)
        return key + equal + value

    def run(self, words: list[str], path: str) -> tuple[int, str]:
        """Exit code (negative: the signal) and stderr."""
        for place in ("new", "run", "sweep"):
            shutil.rmtree(f"{self.base}/{place}", ignore_errors=True)
        for left in ("out.h5", "out.h5.part"):
            if os.path.exists(f"{self.base}/{left}"):
                os.remove(f"{self.base}/{left}")
        if "run.dir=RUN" in words:
            os.makedirs(f"{self.base}/run")
            shutil.copy(path, f"{self.base}/run/last.h5")
        if "sweep.dir=CELLS" in words:
            os.makedirs(f"{self.base}/sweep/cells")
            shutil.copy(path, f"{self.base}/sweep/cells/{self.cell}")
        with open(f"{self.base}/err", "w+b") as err:
            limited = ["sh", "-c", f'ulimit -c 0; ulimit -t {CPU}; exec "$0" "$@"', self.mdlm]
            p = subprocess.Popen(limited + [self.argument(w, path) for w in words], stdin=subprocess.DEVNULL,
                                 stdout=subprocess.DEVNULL, stderr=err, close_fds=False)  # fmt: skip
            try:
                p.wait(ELAPSED)
            except subprocess.TimeoutExpired:
                p.kill()
                p.wait()
            err.seek(0)
            return p.returncode, err.read().decode(errors="replace")


def verdict(code: int, err: str, must: bool, path: str) -> str:
    """ "" if the reader behaved."""
    lines = [line for line in err.splitlines() if line.startswith("mdlm: error")]
    if code < 0:
        return "hang" if code in (-24, -9) else f"crash, signal {-code}"
    if any(t in err for t in TRACES) or code not in (0, *ENDS):
        return f"crash, code {code}"
    if code == 0:
        return "silent" if must and not lines else ""
    if len(lines) != 1:
        return f"{len(lines)} error lines"
    named = (os.path.basename(path), "last.h5", "run.dir", "sweep/cells/")
    return "" if any(n in lines[0] for n in named) else "names no file"


def main() -> None:
    mdlm, good, base = sys.argv[1:4]
    n_structured, n_random = int(sys.argv[4]), int(sys.argv[5])
    seed = int(sys.argv[6]) if len(sys.argv) > 6 else 1
    kinds = os.environ.get("KINDS", "").split() or list(KINDS)
    each = os.environ.get("EACH") == "1"
    sources(good, base)
    runner = Runner(mdlm, good, base)
    counts: Counter[str] = Counter()
    for kind, klass, what, path in make(base, kinds, n_structured, n_random, seed):
        counts["files"] += 1
        readers = list(READERS[kind].items())
        for reader, words in readers if each else [readers[counts["files"] % len(readers)]]:
            code, err = runner.run(words, path)
            counts["readings"] += 1
            counts["refused"] += code != 0
            needed = re.match(NEEDS.get((kind, reader)) or NEEDS.get((kind, ""), "$"), what)
            bad = verdict(code, err, klass == "must" and needed is not None, path)
            if bad:
                counts[bad] += 1
                first = [line for line in err.splitlines() if line.strip()][:12]
                print(f"{bad}\t{kind}\t{reader}\t{what}\t{' | '.join(first)[:700]}", flush=True)
        os.remove(path)
    print(", ".join(f"{n} {what}" for what, n in counts.items()))
    sys.exit(any(what not in ("files", "readings", "refused") for what in counts))


if __name__ == "__main__":
    main()
