"""What mdlm-prepare says and records about its outputs."""

from __future__ import annotations

import argparse
import resource
import time
from collections.abc import Iterator

import numpy as np

from mdlm_data.command import warn
from mdlm_data.corpus import Corpus
from mdlm_data.datafile import DataFile
from mdlm_data.unigram import cross_perplexity, entropy
from mdlm_data.vocabulary import Vocabulary

WARN = 0.001  # share of the text that is lost, from which it is told


class Clock:
    """Elapsed time, and the time of all cores in this process and those it started."""

    def __init__(self) -> None:
        self.start, self.cpu = time.monotonic(), _cpu_seconds()

    def speed(self, mega: float) -> str:
        elapsed, cpu = time.monotonic() - self.start, max(_cpu_seconds() - self.cpu, 1e-9)
        return f"{mega:.1f} MB of text in {elapsed:.1f} s: {mega / elapsed:.1f} MB/s, {mega / cpu:.1f} MB/s per core"


def attributes_of(f: DataFile) -> dict[str, int]:
    """The counts that the file records; src/store/shards.h defines them."""
    a = f.account
    return {
        "documents": a.documents,
        "bytes": a.bytes,
        "words": a.words,
        "empty_documents": a.empty,
        "truncated_documents": a.truncated,
        "truncated_tokens": a.truncated_tokens,
        "dropped_tokens": a.dropped_tokens,
        "unknown_tokens": f.loss.unknown,
        "lost_characters": f.loss.lost,
    }


def report(outputs: dict[str, DataFile], v: Vocabulary, corpus: Corpus, clock: Clock, o: argparse.Namespace) -> None:
    for text in warnings(outputs, v, corpus, o):
        warn(o.program, text)
    if o.quiet:
        return
    print(
        f"{v.name}: V={v.size} mask={v.mask} bos={v.bos} eos={v.eos} pad={v.pad}   L={o.length} "
        f"{'wrapped' if o.wrap else 'one document per row'}"
    )
    print(f"{'':8}{'documents':>12}{'tokens':>14}{'rows':>11}{'unigram ppl':>13}  {'digest':32}  file")
    for name, f in outputs.items():
        ppl = np.exp(entropy(f.counts))
        print(f"{name:8}{f.account.documents:12,}{f.scored:14,}{f.rows:11,}{ppl:13.2f}  {f.digest}  {f.path}")
    for name, f in outputs.items():
        print(f"{name}: {f.account.bytes:,} bytes and {f.account.words:,} words of text in rows{''.join(lost(f))}")
    if len(outputs) == 2:
        ppl = cross_perplexity(outputs["valid"].counts, outputs["train"].counts)
        print(f"perplexity of valid under the unigram model of train: {ppl:.2f}")
    print(clock.speed(sum(f.account.bytes for f in outputs.values()) / 1e6))


def lost(f: DataFile) -> Iterator[str]:
    """What of the text is not in rows, or not as it was."""
    a = f.account
    if a.truncated:
        yield f"; {a.truncated:,} of {a.documents:,} documents truncated by {a.truncated_tokens:,} tokens"
    if a.dropped_tokens:
        yield f"; a remainder of {a.dropped_tokens:,} tokens dropped"
    if a.empty:
        yield f"; {a.empty:,} empty documents"
    if f.loss.changed:
        yield f"; {f.loss.changed:,} texts changed in case, white space or spelling by the tokenizer"


def warnings(outputs: dict[str, DataFile], v: Vocabulary, corpus: Corpus, o: argparse.Namespace) -> Iterator[str]:
    if corpus.replaced:
        yield f"{corpus.replaced} invalid or NUL byte(s) replaced by U+FFFD"
    unknown, tokens = (sum(getattr(f.loss, name) for f in outputs.values()) for name in ("unknown", "tokens"))
    missing, characters = (sum(getattr(f.loss, name) for f in outputs.values()) for name in ("lost", "characters"))
    if unknown > WARN * tokens:
        yield f"{unknown / tokens:.1%} of the tokens are unknown to the vocabulary {v.name}"
    elif missing > WARN * characters:
        yield f"{missing / characters:.1%} of the characters are lost by the tokenizer {v.name}"
    if o.tokenizer and o.tokenizer.startswith("bpe:") and v.size < int(o.tokenizer[4:]):
        yield f"the text yields only {v.size} tokens, not {o.tokenizer[4:]}"


def _cpu_seconds() -> float:
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(u.ru_utime + u.ru_stime for u in used)
