"""python -m mdlm_data.fetch PROTOCOL FOLDER: the text of a protocol, through Hugging Face's `datasets`, into a folder.

The folder is one that mdlm-prepare reads. Which data set and split it is stands in protocols.py.
"""

from __future__ import annotations

import os
import sys

from mdlm_data.command import Parser, run
from mdlm_data.errors import InputError, require
from mdlm_data.protocols import DATA_SETS, parts

PROGRAM = "mdlm_data.fetch"


def main(argv: list[str] | None = None) -> int:
    return run(PROGRAM, _job, argv)


def _job(argv: list[str]) -> None:
    p = Parser(prog=PROGRAM, description="The text of a protocol, through Hugging Face's datasets, into a folder.")
    p.add_argument("protocol", metavar="PROTOCOL", help=", ".join(n for n, d in DATA_SETS.items() if d.dataset))
    p.add_argument("folder", metavar="FOLDER", help="the folder to make; mdlm-prepare reads it")
    p.add_argument("--split", help="default: the one that is evaluated")
    p.add_argument("--revision", help="revision of the data set (default: the newest)")
    o = p.parse_args(argv)
    require(not os.path.exists(o.folder), f"{o.folder} exists already")
    fetch(o.protocol, o.folder, o.split, o.revision)


def fetch(protocol: str, folder: str, split: str | None = None, revision: str | None = None) -> None:
    name = parts(protocol)[0]
    data = DATA_SETS[name]
    require(data.dataset, f"{name}: datasets has no such data set")
    require(data.valid_documents is None, f"{name}: is one split of {data.dataset} there; divide it by mdlm-prepare")
    split = split or data.splits[0]
    require(split in data.splits, f"{name}: --split is {' or '.join(data.splits)}, not {split}")
    import datasets

    what, _, which = data.dataset.partition(" ")
    try:
        if what == "json":
            found = datasets.load_dataset("json", data_files=which, split="train")  # so datasets names a lone file
        else:
            found = datasets.load_dataset(what, which or None, split=split, revision=revision)
    except Exception as e:  # the library raises what its parts raise
        lines = str(e).splitlines() or [type(e).__name__]
        raise InputError(f"{name}: datasets {datasets.__version__} cannot load {data.dataset}: {lines[0]}") from e
    found.select_columns([data.field]).save_to_disk(folder + ".tmp")
    os.replace(folder + ".tmp", folder)


if __name__ == "__main__":
    sys.exit(main())
