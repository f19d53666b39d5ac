"""The table of forms, and how a file is taken through it."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from mdlm_data.errors import InputError, require
from mdlm_data.forms import compressed, records, tokens
from mdlm_data.forms.foreign import foreign, format_of
from mdlm_data.forms.item import Item, Options
from mdlm_data.forms.stream import Peek

DEPTH = 4  # of forms in each other: a .jsonl.gz in a .tar.xz has 4


@dataclass(frozen=True)
class Form:
    name: str
    recognise: Callable[[bytes], bool]  # from the first bytes
    open: Callable[..., Iterator[Any]]
    gives: str  # "streams", to be recognised in turn, "records" or "tokens"


FORMS = (
    Form("gzip", compressed.is_gzip, compressed.from_gzip, "streams"),
    Form("bzip2", compressed.is_bzip2, compressed.from_bzip2, "streams"),
    Form("xz", compressed.is_xz, compressed.from_xz, "streams"),
    Form("zstd", compressed.is_zstd, compressed.from_zstd, "streams"),
    Form("tar", compressed.is_tar, compressed.from_tar, "streams"),
    Form("Parquet", records.is_parquet, records.from_parquet, "records"),
    Form("Arrow", records.is_arrow_file, records.from_arrow_file, "records"),
    Form("Arrow stream", records.is_arrow_stream, records.from_arrow_stream, "records"),
    Form("JSON lines", records.is_json, records.from_json_lines, "records"),
    Form(".npy", tokens.is_npy, tokens.from_npy, "tokens"),
    Form("llm.c's .bin", tokens.is_llm_c, tokens.from_llm_c, "tokens"),
    Form("Megatron's .idx", tokens.is_index, tokens.from_index, "tokens"),
)


def expanded(path: str) -> list[str]:
    """The files that a path names: itself, or those of a folder that holds a data set."""
    if os.path.isdir(path):
        return records.files_of_folder(path)
    index = path.removesuffix(".bin") + ".idx"
    return [index] if path.endswith(".bin") and _begins(index, tokens.INDEX) else [path]


def opened(stream: Peek, o: Options, depth: int = 0) -> Iterator[Item]:
    """What a stream holds, by its content."""
    head, name = stream.head(), stream.name
    form = next((f for f in FORMS if f.recognise(head)), None)
    if form and form.gives == "records" and o.plain and form.open is records.from_json_lines:
        form = None
    if form and form.gives == "streams":
        require(depth < DEPTH, f"{name}: more than {DEPTH} compressions or archives in each other")
        for inner in form.open(stream):
            yield from opened(inner, o, depth + 1)
    elif form and form.gives == "tokens":
        require(o.tokens, f"{name}: looks like token ids ({form.name}); name their vocabulary by --vocabulary")
        yield Item(name, tokens=form.open(stream, o.tokens, o.folder))
    elif o.tokens:
        yield from _raw_tokens(stream, form, o)
    elif form:
        yield Item(name, records=form.open(stream, o))
    else:
        found = foreign(head, o.most_invalid)
        require(not found, f"{name}: {found}")
        yield from _text(stream, o)


def _text(stream: Peek, o: Options) -> Iterator[Item]:
    """Plain text; the share of invalid bytes in all of it is checked at its end."""
    before = o.counts.replaced
    yield Item(stream.name, text=stream.buffered())
    bad = o.counts.replaced - before
    if bad > o.most_invalid * stream.count:
        share = f"{bad / stream.count:.1%} of its bytes are NUL or no UTF-8"
        raise InputError(
            f"{stream.name}: looks like no UTF-8 text: {share}; --allow-invalid {o.most_invalid} is the most"
        )


def _raw_tokens(stream: Peek, form: Form | None, o: Options) -> Iterator[Item]:
    head, name = stream.head(), stream.name
    require(form is None and foreign(head, 0.0), f"{name}: is text, but --vocabulary is for token ids; use --tokenizer")
    require(not format_of(head), f"{name}: looks like {format_of(head)}, not like token ids")
    yield Item(name, tokens=tokens.from_raw(stream, o.tokens, o.folder))


def _begins(path: str, magic: bytes) -> bool:
    try:
        with open(path, "rb") as f:
            return f.read(len(magic)) == magic
    except OSError:
        return False
