"""lm-evaluation-harness on a checkpoint of mdlm: its model "mdlm".

    python -m mdlm_analysis.harness --model mdlm --model_args checkpoint=runs/a/best.h5,data=data/valid.h5 --tasks piqa

runs lm_eval with that model. The likelihoods of all requests of a call are one job of `mdlm likelihood`, texts one of
`mdlm sample`. The harness is an extra of the package: pip install -e 'analysis[lm-eval]'."""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import mdlm_h5
from mdlm_analysis.program import mdlm
from mdlm_data.command import run
from mdlm_data.errors import InputError, require
from mdlm_data.prompt_file import write
from mdlm_data.spelling import spelling
from mdlm_data.task_file import Request, Tokens, encode, write_requests
from mdlm_data.vocabularies import make_vocabulary

PROGRAM = "mdlm-harness"
GENERATED = 64  # tokens, where the task does not say


@dataclass
class Scorer:
    """What the harness asks for, by the program mdlm. Fields are those of --model_args."""

    checkpoint: str
    data: str = ""  # a data file, whose tokenizer is used; empty: data.valid of the checkpoint's deck
    weights: str = "ema"
    keys: str = ""  # KEY=VALUE for mdlm, separated by blanks: "eval.estimator=chain eval.order=margin"
    mdlm: str = ""  # how to run it: "mpirun -n 4 build/mdlm"; empty: mdlm, or build/mdlm
    context: int = 1  # tokens that a window of a long text sees of the one before
    work: str | None = None  # folder for temporary files
    length: int = field(init=False)

    def __post_init__(self) -> None:
        found = mdlm_h5.checkpoint(self.checkpoint)
        self.deck = str(found.attributes["deck"])
        self.length = int(found.length)
        self.vocabulary = make_vocabulary(f"data:{self.data or found.deck['data']['valid']}")
        self.begin = [self.vocabulary.bos] if self.vocabulary.bos >= 0 else []
        require(0 < self.context < self.length, f"context={self.context}: must be 1 to {self.length - 1}")
        if found.vocabulary.attributes["hash"] != self.vocabulary.hash:
            raise InputError(f"{self.checkpoint} reads tokens of another tokenizer than that of {self.vocabulary.name}")

    def likelihoods(self, requests: Sequence[Request]) -> list[tuple[float, bool]]:
        """(log p(continuation | context), whether decoding without randomness gives it) of each."""
        tokens = encode(requests, self.vocabulary, True)
        return self._score(tokens, [r.question for r in requests], "likelihood.greedy=true")

    def rolling(self, texts: Sequence[str]) -> list[float]:
        """log p(text) of each: windows of the network's length, each token scored once. For bits per byte the harness
        divides by the bytes of the text itself."""
        windows, owner = [], []
        for i, ids in enumerate(self.vocabulary.encode(list(texts))):
            for window in self._windows([int(t) for t in ids]):
                windows.append(window)
                owner.append(i)
        totals = [0.0] * len(texts)
        for i, (ll, _) in zip(owner, self._score(windows, list(range(len(windows))))):
            totals[i] += ll
        return totals

    def texts(self, contexts: Sequence[str], most: Sequence[int], until: Sequence[list[str]]) -> list[str]:
        """What follows each context: at most so many tokens, up to one of the stops."""
        v = self.vocabulary
        room = [max(1, min(m, self.length - len(self.begin))) for m in most]
        rows = []
        for ids, r in zip(v.encode(list(contexts)), room):
            keep = self.length - len(self.begin) - r
            rows.append([*self.begin, *(int(t) for t in ids[max(0, len(ids) - keep) :])])
        with tempfile.TemporaryDirectory(prefix="mdlm-harness-", dir=self.work) as folder:
            prompts, out = Path(folder, "prompts.h5"), Path(folder, "samples.h5")
            write(rows, v, argparse.Namespace(out=str(prompts)), PROGRAM)
            self._run("sample", folder, f"sample.prompt={prompts}", f"sample.count={len(rows)}", f"sample.output={out}")
            samples = mdlm_h5.samples(out).tokens
        found = spelling(self.checkpoint)
        pieces = []
        for row, sample, r in zip(rows, samples.tolist(), room):
            new = sample[len(row) : len(row) + r]
            pieces.append(found.text(new[: new.index(v.eos)] if v.eos in new else new))
        return [cut(piece, stops) for piece, stops in zip(pieces, until)]

    def _windows(self, ids: list[int]) -> Iterator[Tokens]:
        at = 0 if self.begin else 1  # without bos the first token is context
        if len(ids) > at:
            end = self.length - len(self.begin)
            yield Tokens([*self.begin, *ids[:at]], ids[at:end], 1)
            at = end
        while at < len(ids):
            end = min(len(ids), at + self.length - self.context)
            yield Tokens(ids[at - self.context : at], ids[at:end], 1)
            at = end

    def _score(self, tokens: Sequence[Tokens], questions: list[int], *keys: str) -> list[tuple[float, bool]]:
        if not tokens:
            return []
        with tempfile.TemporaryDirectory(prefix="mdlm-harness-", dir=self.work) as folder:
            asked, out = Path(folder, "requests.h5"), Path(folder, "likelihood.h5")
            write_requests(str(asked), tokens, self.vocabulary, PROGRAM, questions)
            self._run("likelihood", folder, f"likelihood.requests={asked}", f"likelihood.output={out}", *keys)
            found = mdlm_h5.likelihood(out)
        return [(float(ll), bool(greedy == 1)) for ll, greedy in zip(found.ll, found.is_greedy)]

    def _run(self, command: str, folder: str, *own: str) -> None:
        deck = Path(folder, "deck.cfg")
        deck.write_text(self.deck)
        section = "sample" if command == "sample" else "eval"
        weights = (f"{section}.checkpoint={self.checkpoint}", f"{section}.weights={self.weights}")
        mdlm(self.mdlm, command, deck, f"run.dir={folder}", *weights, *own, *self.keys.split(), option="mdlm=COMMAND")


def cut(text: str, stops: Sequence[str]) -> str:
    """The text up to the first of the stops."""
    return text[: min([text.find(s) for s in stops if s and s in text], default=len(text))]


def requests_of(instances: Sequence[Any]) -> list[Request]:
    """Those of one document of one task are options of one question, which share their masks."""
    numbers: dict[tuple[Any, Any], int] = {}
    found = []
    for i, instance in enumerate(instances):
        task, doc = getattr(instance, "task_name", None), getattr(instance, "doc_id", None)
        question = numbers.setdefault((task, doc) if doc is not None else (None, -1 - i), len(numbers))
        found.append(Request(*instance.args, question))
    return found


def model() -> type:
    """The harness's model of this program, as a subclass of its LM."""
    try:
        from lm_eval.api.model import LM
    except ModuleNotFoundError as e:
        raise InputError("lm-evaluation-harness is missing: pip install -e 'analysis[lm-eval]'") from e

    class Mdlm(LM):
        def __init__(self, checkpoint: str, **options: Any) -> None:
            super().__init__()
            known = ("data", "weights", "keys", "mdlm", "context", "work")
            self.scorer = Scorer(checkpoint, **{k: x for k, x in options.items() if k in known})

        def loglikelihood(self, requests: Sequence[Any], **_: Any) -> list[tuple[float, bool]]:
            return self._cached("loglikelihood", requests, self.scorer.likelihoods(requests_of(requests)))

        def loglikelihood_rolling(self, requests: Sequence[Any], **_: Any) -> list[float]:
            return self._cached("loglikelihood_rolling", requests, self.scorer.rolling([r.args[0] for r in requests]))

        def generate_until(self, requests: Sequence[Any], **_: Any) -> list[str]:
            options = [r.args[1] for r in requests]
            until = [[x] if isinstance(x, str) else list(x or []) for x in (o.get("until") for o in options)]
            most = [int(o.get("max_gen_toks", GENERATED)) for o in options]
            texts = self.scorer.texts([r.args[0] for r in requests], most, until)
            return self._cached("generate_until", requests, texts)

        def _cached(self, kind: str, requests: Sequence[Any], results: list[Any]) -> list[Any]:
            for request, result in zip(requests, results):
                self.cache_hook.add_partial(kind, request.args, result)
            return results

    return Mdlm


def register() -> None:
    """Make the model known to the harness as "mdlm"."""
    found = model()
    from lm_eval.api.registry import register_model

    register_model("mdlm")(found)


def main(argv: list[str] | None = None) -> int:
    return run(PROGRAM, evaluate, argv)


def evaluate(argv: list[str]) -> None:
    """lm_eval with these arguments."""
    register()
    from lm_eval.__main__ import cli_evaluate

    before, sys.argv = sys.argv, ["lm_eval", *argv]
    try:
        cli: Callable[[], None] = cli_evaluate
        cli()
    finally:
        sys.argv = before


if __name__ == "__main__":
    sys.exit(main())
