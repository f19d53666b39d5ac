"""What mdlm-prepare says and records about its outputs."""

from __future__ import annotations

import argparse
import resource
import time
from collections.abc import Iterator
from typing import Any

import numpy as np

from mdlm_data.command import warn
from mdlm_data.corpus import Corpus
from mdlm_data.datafile import DataFile
from mdlm_data.protocols import OURS, VARIANTS, dataset_of, parts
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


def settings_of(o: argparse.Namespace, corpus: Corpus) -> dict[str, Any]:
    """What the options fixed, as the file records it; src/store/shards.h defines the attributes."""
    unit = "+".join(sorted(corpus.units))
    values = {
        "wrap": int(o.wrap),
        "detokenizer": o.detokenizer,
        "source": o.source,
        "document_unit": unit + "+newline" * (o.keep_newline and "line" in corpus.units) + "+stripped" * o.strip,
        "framing": "documents" if not o.wrap else "replay" if o.map_batch else OURS,
        "map_batch": o.map_batch,
        "shards": o.shards,
        "add_eos": int(o.add_eos),
        "add_special": int(o.add_special),
        "field": o.field if "record" in corpus.units else None,
        "label_field": o.label_field,
        "revision": o.revision,
    }
    if o.protocol:
        name, variant = parts(o.protocol)
        values |= {"protocol": name, "variant": variant, "dataset": dataset_of(o.protocol)}
        values["scored"] = VARIANTS[variant].scored
    return {name: value for name, value in values.items() if value not in (None, "")}


def attributes_of(f: DataFile) -> dict[str, int]:
    """The counts that the file records; src/store/shards.h defines them."""
    a = f.account
    return {
        "documents": a.documents,
        "scored_tokens": f.scored,
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
    print(f"{v.name}: V={v.size} mask={v.mask} bos={v.bos} eos={v.eos} pad={v.pad}   L={o.length} {_rows(o)}")
    print(f"{'':8}{'documents':>12}{'tokens':>14}{'rows':>11}{'unigram ppl':>13}  {'digest':32}  file")
    for name, f in outputs.items():
        ppl = np.exp(entropy(f.counts))
        print(f"{name:8}{f.account.documents:12,}{f.scored:14,}{f.rows:11,}{ppl:13.2f}  {f.digest}  {f.path}")
    for name, f in outputs.items():
        print(f"{name}: {f.account.bytes:,} bytes and {f.account.words:,} words of text in rows{''.join(lost(f))}")
    if corpus.labels:
        none = f", {corpus.labels.unknown:,} documents without one" if corpus.labels.unknown else ""
        print(f"labels: {corpus.labels.finish().count:,} classes{none}")
    if len(outputs) == 2:
        ppl = cross_perplexity(outputs["valid"].counts, outputs["train"].counts)
        print(f"perplexity of valid under the unigram model of train: {ppl:.2f}")
    print(clock.speed(sum(f.account.bytes for f in outputs.values()) / 1e6))


def _rows(o: argparse.Namespace) -> str:
    if not o.wrap:
        return "one document per row"
    left_out = "".join(f", no {what}" for what, has in (("eos", o.add_eos), ("frame", o.add_special)) if not has)
    return "wrapped" + (f" in batches of {o.map_batch}, shards: {o.shards}" if o.map_batch else "") + left_out


def lost(f: DataFile) -> Iterator[str]:
    """What of the text is not in rows, or not as it was."""
    a = f.account
    if a.truncated:
        yield f"; {a.truncated:,} of {a.documents:,} documents truncated by {a.truncated_tokens:,} tokens"
    if a.dropped_tokens:
        yield f"; {a.dropped_tokens:,} tokens of remainders dropped"
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
