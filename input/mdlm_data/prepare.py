"""mdlm-prepare: text to tokenized HDF5 data files; the command line. The work is in preparation.py."""

from __future__ import annotations

import argparse
import os
import shlex
import sys

from mdlm_data.command import check_paths, run
from mdlm_data.errors import require
from mdlm_data.output import check_replaced
from mdlm_data.prepare_options import fill, parser
from mdlm_data.protocols import DATA_SETS, parts
from mdlm_data.specials import special_tokens

PROGRAM = "mdlm-prepare"


def main(argv: list[str] | None = None) -> int:
    return run(PROGRAM, _job, argv)


def _job(argv: list[str]) -> None:
    options = parse(argv)
    from mdlm_data.preparation import prepare

    prepare(options, f"{PROGRAM} {shlex.join(argv)}")


def parse(argv: list[str]) -> argparse.Namespace:
    """Options, checked against each other before anything is read."""
    o = parser(PROGRAM).parse_args(argv)
    split = any(x is not None for x in (o.out_train, o.out_valid, o.valid_documents, o.valid_fraction))
    require(not (split and o.out), "--out is for one file; a split takes --out-train and --out-valid")
    require(split or o.out, "give --out FILE.h5 (or --out-train, --out-valid and --valid-documents)")
    require(not split or (o.out_train and o.out_valid), "a split takes both --out-train and --out-valid")
    if o.protocol:
        check_protocol(o, split)
    fill(o)
    require(
        not split or (o.valid_documents is None) != (o.valid_fraction is None),
        "a split takes either --valid-documents or --valid-fraction",
    )
    require(not split or o.split is None, "--split names the part in --out; a split is named train and valid")
    require(o.length is not None, "give --length L, the tokens in a row, or --protocol")
    require(4 <= o.length <= 1 << 20, f"--length {o.length}: a row has 4 to {1 << 20} tokens, with bos and eos")
    require(o.valid_fraction is None or 0 < o.valid_fraction < 1, "--valid-fraction lies between 0 and 1")
    require(o.chunk_rows is None or 0 <= o.chunk_rows * o.length < 1 << 28, "--chunk-rows: 0, or chunks below 1 GiB")
    for name in ("valid_documents", "limit", "chunk"):
        value = getattr(o, name)
        require(value is None or value > 0, f"--{name.replace('_', '-')} {value}: must be positive")
    require(o.inputs.count("-") < 2, "- is given twice; standard input is read once")
    check_input(o)
    check_framing(o)
    check_labels(o)
    o.special = special_tokens(o.special)
    o.split = o.split or "all"
    names = ",".join("stdin" if p == "-" else os.path.basename(p) for p in o.inputs)
    o.source = o.source or (names if len(names.encode()) < 256 else f"{len(o.inputs)} files")
    require(len(o.source.encode()) < 256, "--source: at most 255 bytes")
    require(len(o.split.encode()) < 64, "--split: at most 63 bytes")
    require(len((o.revision or "").encode()) < 256, "--revision: at most 255 bytes")
    require(len(o.detokenizer) < 32, "--detokenizer: at most 31 bytes")
    outputs = [path for path in (o.out, o.out_train, o.out_valid) if path]
    kind, _, files = (o.vocabulary or o.tokenizer).partition(":")
    check_paths(outputs, [*o.inputs, *(files.split(",") if kind != "chars" else [])])
    check_replaced(outputs, "mdlm-data")
    return o


def check_protocol(o: argparse.Namespace, split: bool) -> None:
    """What a protocol leaves to the user."""
    data = DATA_SETS[parts(o.protocol)[0]]
    here = f"--protocol {o.protocol}"
    require(not o.vocabulary, f"{here} is for text, not for token ids")
    if data.tokenizer == "text8":
        o.tokenizer = o.tokenizer or data.tokenizer
    require(o.tokenizer, f"{here}: give --tokenizer, the files of {data.tokenizer}")
    require(o.limit is None, f"{here} takes all documents; leave out --limit")
    if split:
        require(data.valid_documents, f"{here}: its splits are fixed; give --out FILE.h5")
        require(
            o.valid_documents in (None, data.valid_documents) and o.valid_fraction is None,
            f"{here} fixes valid-documents = {data.valid_documents}",
        )
        o.valid_documents = data.valid_documents
    else:
        o.split = o.split or data.splits[0]
        require(o.split in data.splits, f"{here}: --split is {' or '.join(data.splits)}, not {o.split}")


def check_framing(o: argparse.Namespace) -> None:
    """--map-batch 0 is the seamless framing; otherwise there is at least one shard."""
    require(o.wrap or (o.add_eos and o.add_special), "--no-add-eos and --no-add-special go with --wrap")
    require(o.wrap or not (o.map_batch or o.shards), "--map-batch and --shards go with --wrap")
    require(0 <= o.map_batch <= 1 << 31, f"--map-batch {o.map_batch}: 0, or documents in a batch")
    require(0 <= o.shards <= 1 << 20, f"--shards {o.shards}: processes of the code whose rows are replayed")
    require(o.map_batch or not o.shards, "--shards goes with --map-batch, or with a protocol of a paper")
    require(
        not (o.protocol and o.map_batch and not o.shards),
        f"--protocol {o.protocol}: its rows depend on the number of processes P that made them; give --shards P",
    )
    o.shards = o.shards or int(o.map_batch > 0)


def check_labels(o: argparse.Namespace) -> None:
    require(not o.label_classes or o.label_field, "--label-classes goes with --label-field")
    require(
        not (o.label_field and o.wrap),
        "--label-field gives each row the class of its document, but with --wrap a row holds several: add --no-wrap",
    )
    require(not (o.label_field and o.vocabulary), "--label-field is for records; token ids have no fields")
    require(not (o.label_field and o.plain_text), "--label-field is for records, --plain-text for text")


def check_input(o: argparse.Namespace) -> None:
    require(bool(o.tokenizer) != bool(o.vocabulary), "give --tokenizer for text, or --vocabulary for token ids")
    if o.tokenizer == "text8":
        o.documents = o.documents or "chunk"
    elif o.keep_newline:
        o.documents = o.documents or "line"
    require(not o.keep_newline or o.documents == "line", "--keep-newline goes with --documents line")
    require(o.chunk is None or o.documents == "chunk", "--chunk goes with --documents chunk")
    require(not o.vocabulary or not o.documents, "--documents is for text; token ids have an eos after each document")
    require(not o.vocabulary or o.detokenizer == "none", "--detokenizer is for text")
    for name in ("allow_invalid", "max_loss"):
        require(0 <= getattr(o, name) <= 1, f"--{name.replace('_', '-')}: a share from 0 to 1")
    require(o.processes is None or 1 <= o.processes <= 1024, f"--processes {o.processes}: from 1 to 1024")
    o.processes = o.processes or len(os.sched_getaffinity(0))


if __name__ == "__main__":
    sys.exit(main())
