"""Text or token ids to tokenized data files: the work of mdlm-prepare."""

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

from mdlm_data.batch_store import BatchStore
from mdlm_data.corpus import LINE, Corpus
from mdlm_data.datafile import DataFile
from mdlm_data.detokenizers import detokenizer
from mdlm_data.documents import Piece, Unit, cut_at_blank, take
from mdlm_data.encoding import BatchEncoder, batches
from mdlm_data.errors import InputError, require
from mdlm_data.forms import Options, TokenRule
from mdlm_data.framing import Rows, Unwrapped, Wrapped
from mdlm_data.labels import Labels, classes_of
from mdlm_data.progress import Progress
from mdlm_data.protocols import check_vocabulary
from mdlm_data.replay import Replay, group_sizes
from mdlm_data.specials import SPECIALS
from mdlm_data.summary import Clock, attributes_of, report, settings_of
from mdlm_data.unigram import cross_perplexity
from mdlm_data.vocabularies import make_vocabulary, trained
from mdlm_data.vocabulary import Vocabulary
from mdlm_data.workers import in_processes

BPE_SAMPLE = 256 << 20  # bytes of text that a BPE is trained on at most
LONGEST = 1 << 26  # characters of a document that a detokenizer takes


def prepare(o: argparse.Namespace, command: str) -> None:
    """The whole job: count the documents if there is a split, make the vocabulary, tokenize, finish, publish."""
    clock = Clock()
    split = o.out is None
    corpus = open_corpus(o, split)
    sizes = count_documents(corpus, o, split)
    sample = partial(training_sample, corpus, sizes[0], o)
    vocabulary = make_vocabulary(o.vocabulary or o.tokenizer, o.special, o.eos_is_bos, sample)
    if o.protocol:
        check_vocabulary(o.protocol, vocabulary.name, tuple(getattr(vocabulary, role) for role in SPECIALS))
    paths = {"train": o.out_train, "valid": o.out_valid} if split else {o.split: o.out}
    if o.label_field:
        corpus.labels = Labels(o.label_field, classes_of(o.label_classes) if o.label_classes else None)
    with ExitStack() as stack:
        outputs = {
            name: stack.enter_context(DataFile(path, vocabulary, o.length, o.chunk_rows, bool(o.label_field)))
            for name, path in paths.items()
        }
        store = None
        if o.resume and not o.vocabulary:
            store = stack.enter_context(
                BatchStore(f"{o.out or o.out_train}.part", f"{vocabulary.hash} {o.detokenizer}")
            )
        tokenize_all(corpus, sizes, outputs, store, o)
        finish(outputs, corpus, o, command)
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, signal.SIG_IGN)  # both files are published or neither
        for output in outputs.values():
            output.publish()
    report(outputs, vocabulary, corpus, clock, o)


def open_corpus(o: argparse.Namespace, split: bool) -> Corpus:
    folder = os.path.dirname(os.path.realpath(o.out or o.out_train))
    several_passes = split or o.shards > 1 or trained(o.vocabulary or o.tokenizer)
    rule = None
    if o.vocabulary:
        v = make_vocabulary(o.vocabulary, o.special, o.eos_is_bos)
        rule = TokenRule(v.size, v.bos, v.eos, "<u2" if v.size <= 65536 else "<u4")
    unit = Unit(o.documents, o.chunk or o.length, o.keep_newline) if o.documents else None
    return Corpus(
        o.inputs,
        None if o.protocol else unit,  # a record of its data set is a document
        text_unit=unit or LINE,
        options=Options(o.field, o.label_field, o.plain_text, rule, o.allow_invalid, folder),
        limit=o.limit,
        spool_dir=folder if several_passes else None,
    )


def count_documents(corpus: Corpus, o: argparse.Namespace, split: bool) -> list[int | None]:
    """How many documents each output has; [None], without a pass over the corpus, where that need not be known."""
    if not split and o.shards < 2:
        return [None]
    progress = Progress("counting", corpus, o.quiet)
    n = sum(end for _, end in progress.watch(corpus.pieces(cut_at_blank)))
    progress.end()
    if not n:
        raise InputError("the corpus is empty")
    if not split:
        return [n]
    n_valid = o.valid_documents if o.valid_documents else max(1, round(n * o.valid_fraction))
    if n_valid >= n:
        raise InputError(
            f"{n_valid} validation documents of {n}: nothing is left to train on; ask for fewer, or check --documents"
        )
    return [n - n_valid, n_valid]


def training_sample(corpus: Corpus, n_train: int | None, o: argparse.Namespace) -> Iterator[str]:
    """The text a BPE is trained on: the training documents, or every k-th piece of them if there are very many."""
    size = corpus.size() or 0
    progress = Progress("training the tokenizer", corpus, o.quiet)
    pieces = take(progress.watch(pieces_of(corpus, cut_at_blank, o)), n_train)
    detokenize = detokenizer(o.detokenizer)
    first = next(pieces, None)
    if first is None:
        raise InputError("the corpus is empty")
    every = 1 if o.tokenizer == "chars" else 1 + size // BPE_SAMPLE
    yield from (detokenize(text) for text, _ in islice(chain([first], pieces), 0, None, every))
    progress.end()


def pieces_of(corpus: Corpus, cut: Any, o: argparse.Namespace) -> Iterator[Piece]:
    """The documents in pieces; whole for a detokenizer, whose rules look at both sides of a place."""
    whole = o.detokenizer != "none" or o.strip
    for text, end in corpus.pieces(None if whole else cut):
        if whole and len(text) > LONGEST:
            raise InputError(f"a document of {len(text):,} characters: with --detokenizer at most {LONGEST:,}")
        yield text.strip() if o.strip else text, end


def framing_of(v: Vocabulary, o: argparse.Namespace, documents: int | None) -> Wrapped | Unwrapped | Replay:
    if not o.wrap:
        return Unwrapped(v, o.length)
    if not o.map_batch:
        return Wrapped(v, o.length, o.add_eos, o.add_special)
    return Replay(v, o.length, o.add_eos, o.add_special, group_sizes(o.map_batch, o.shards, documents))


def tokenize_all(
    corpus: Corpus,
    sizes: list[int | None],
    outputs: dict[str, DataFile],
    store: BatchStore | None,
    o: argparse.Namespace,
) -> None:
    """So many documents to each output; None: all."""
    progress = Progress("tokenizing", corpus, o.quiet)
    v = next(iter(outputs.values())).v
    pieces = progress.watch(pieces_of(corpus, v.encode.cut, o))
    encode = BatchEncoder(v, o.detokenizer)
    for output, n in zip(outputs.values(), sizes):
        framing = framing_of(v, o, n)
        for encoded in (store.encoded if store else in_processes)(encode, batches(take(pieces, n)), o.processes):
            add_rows(output, framing.add(encoded), corpus.labels)
            output.loss += encoded.loss
        add_rows(output, framing.end(), corpus.labels)
        output.account = framing.account
        require(n in (None, output.account.documents), "the corpus changed while it was read; run the command again")
    progress.end()
    if store and store.found and not o.quiet:
        print(f"{store.found} of {store.batches} batches of text were taken from an interrupted run")


def add_rows(output: DataFile, rows: Rows, labels: Labels | None) -> None:
    """With labels a row is a document."""
    output.add(rows, labels.take(len(rows[0])) if labels else None)


def finish(outputs: dict[str, DataFile], corpus: Corpus, o: argparse.Namespace, command: str) -> None:
    files = list(outputs.values())
    for f in files:
        require(
            f.rows or o.shards < 2 or not f.account.dropped_tokens,
            f"{f.path}: no rows: each of --shards {o.shards} drops its part of so short a text; take fewer",
        )
    frame = np.isin(np.arange(files[0].v.size), (files[0].v.bos, files[0].v.eos))
    if not any(f.counts[~frame].any() for f in files):
        raise InputError("the corpus holds no text")
    check_loss(files, files[0].v, o)
    classes = corpus.labels.finish() if corpus.labels else None
    attributes = settings_of(o, corpus) | {"command": command, "replaced_bytes": corpus.replaced}
    for name, output in outputs.items():
        if not output.rows:
            raise InputError(f"{output.path}: no rows; check the corpus and the split")
        more: dict[str, Any] = {"split": name}
        if output is not files[0]:
            more["unigram_ppl_train"] = cross_perplexity(output.counts, files[0].counts)
        output.finish(attributes | attributes_of(output) | more, classes, corpus.labels)


def check_loss(files: list[DataFile], v: Vocabulary, o: argparse.Namespace) -> None:
    for f in files:
        what = f"{f.loss.lost:,} of {f.loss.characters:,} characters, {f.loss.unknown:,} unknown tokens"
        require(
            f.loss.share <= o.max_loss,
            f"the tokenizer {v.name} loses {f.loss.share:.1%} of the text ({what}); "
            f"take another, or allow it by --max-loss {min(1, np.ceil(f.loss.share * 100) / 100):g}",
        )
