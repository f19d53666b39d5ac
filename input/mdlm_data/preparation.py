"""Text to tokenized data files: the work of mdlm-prepare."""

from __future__ import annotations

import argparse
import os
import signal
from collections.abc import Iterator
from contextlib import ExitStack
from functools import partial
from itertools import chain, islice
from typing import Any

import numpy as np

from mdlm_data.command import warn
from mdlm_data.corpus import Corpus
from mdlm_data.datafile import DataFile
from mdlm_data.detokenizers import detokenizer
from mdlm_data.errors import InputError
from mdlm_data.framing import Unwrapped, Wrapped, blocks
from mdlm_data.progress import Progress
from mdlm_data.unigram import cross_perplexity, entropy
from mdlm_data.vocabularies import make_vocabulary
from mdlm_data.vocabulary import Vocabulary

BPE_SAMPLE = 256 << 20  # bytes of text that a BPE is trained on at most


def prepare(o: argparse.Namespace, command: str) -> None:
    """The whole job: count the documents if there is a split, make the vocabulary, tokenize, finish, publish."""
    split = o.out is None
    several_passes = split or o.tokenizer.startswith("bpe:")
    corpus = Corpus(
        o.inputs,
        o.documents,
        chunk=o.chunk or o.length,
        keep_newline=o.keep_newline,
        limit=o.limit,
        transform=detokenizer(o.detokenizer),
        spool_dir=os.path.dirname(os.path.realpath(o.out or o.out_train)) if several_passes else None,
    )
    n_train = count_training(corpus, o) if split else None
    sample = partial(training_sample, corpus, n_train, o.quiet)
    vocabulary = make_vocabulary(o.tokenizer, o.special, o.eos_is_bos, sample)
    paths = {"train": o.out_train, "valid": o.out_valid} if split else {o.split: o.out}
    with ExitStack() as stack:
        outputs = {
            name: stack.enter_context(DataFile(path, vocabulary, o.length, o.chunk_rows))
            for name, path in paths.items()
        }
        tokenize_all(corpus, n_train, outputs, o)
        finish(outputs, o, command)
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, signal.SIG_IGN)  # both files are published or neither
        for output in outputs.values():
            output.publish()
    report(outputs, vocabulary, corpus, o)


def count_training(corpus: Corpus, o: argparse.Namespace) -> int:
    """How many documents come before the validation part."""
    progress = Progress("counting", corpus, o.quiet)
    n = sum(1 for _ in progress.watch(corpus.documents()))
    progress.end()
    n_valid = o.valid_documents if o.valid_documents else max(1, round(n * o.valid_fraction))
    if not n:
        raise InputError("the corpus is empty")
    if n_valid >= n:
        raise InputError(
            f"{n_valid} validation documents of {n}: nothing is left to train on; ask for fewer, or check --documents"
        )
    return n - n_valid


def training_sample(corpus: Corpus, n_train: int | None, quiet: bool) -> Iterator[str]:
    """The text a BPE is trained on: the training documents, or every k-th of them if there are very many."""
    size = corpus.size() or 0
    progress = Progress("training the BPE", corpus, quiet)
    texts = progress.watch(corpus.documents())
    first = next(texts, None)
    if first is None:
        raise InputError("the corpus is empty")
    yield from islice(chain([first], texts), 0, n_train, 1 + size // BPE_SAMPLE)
    progress.end()


def tokenize_all(corpus: Corpus, n_train: int | None, outputs: dict[str, DataFile], o: argparse.Namespace) -> None:
    """The first n_train documents to the first output, the rest to the second; all to the only one."""
    progress = Progress("tokenizing", corpus, o.quiet)
    texts = progress.watch(corpus.documents())
    for output, n in zip(outputs.values(), (n_train, None)):
        tokenize(islice(texts, n), o.wrap, output)
    progress.end()


def tokenize(texts: Iterator[str], wrap: bool, output: DataFile) -> None:
    framing = (Wrapped if wrap else Unwrapped)(output.v, output.length)
    for batch in blocks(texts):
        output.add(framing.add(output.v.encode(batch)), len(batch))
    output.add(framing.end(), 0)


def finish(outputs: dict[str, DataFile], o: argparse.Namespace, command: str) -> None:
    files = list(outputs.values())
    frame = np.isin(np.arange(files[0].v.size), (files[0].v.bos, files[0].v.eos))
    if not any(f.counts[~frame].any() for f in files):
        raise InputError("the corpus holds no text")
    attributes = {
        "wrap": int(o.wrap),
        "detokenizer": o.detokenizer,
        "source": o.source,
        "command": command,
        "document_unit": o.documents + ("+newline" if o.keep_newline else ""),
    }
    for name, output in outputs.items():
        if not output.rows:
            raise InputError(f"{output.path}: no rows; check the corpus and the split")
        more: dict[str, Any] = {"split": name}
        if output is not files[0]:
            more["unigram_ppl_train"] = cross_perplexity(output.counts, files[0].counts)
        output.finish(attributes | more)


def report(outputs: dict[str, DataFile], v: Vocabulary, corpus: Corpus, o: argparse.Namespace) -> None:
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
        print(f"{name:8}{f.documents:12,}{f.scored:14,}{f.rows:11,}{ppl:13.2f}  {f.digest}  {f.path}")
    if len(outputs) == 2:
        ppl = cross_perplexity(outputs["valid"].counts, outputs["train"].counts)
        print(f"perplexity of valid under the unigram model of train: {ppl:.2f}")


def warnings(outputs: dict[str, DataFile], v: Vocabulary, corpus: Corpus, o: argparse.Namespace) -> Iterator[str]:
    if corpus.replaced:
        yield f"{corpus.replaced} invalid UTF-8 byte(s) replaced by U+FFFD"
    counts = np.sum([f.counts for f in outputs.values()], axis=0)
    if v.unknown is not None and counts[v.unknown] > 0.001 * counts.sum():
        yield f"{counts[v.unknown] / counts.sum():.1%} of the tokens are unknown to the vocabulary {v.name}"
    if o.tokenizer.startswith("bpe:") and v.size < int(o.tokenizer[4:]):
        yield f"the text yields only {v.size} tokens, not {o.tokenizer[4:]}"
