"""Records with a field of text: JSON lines, Parquet, Arrow, data sets that Hugging Face's `datasets` saved."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterable, Iterator
from typing import Any

from mdlm_data.errors import InputError, require
from mdlm_data.forms.item import Options
from mdlm_data.forms.stream import Peek

SURROGATE = re.compile("[\ud800-\udfff]")
ROWS = 256  # rows of a Parquet file held at a time


def is_json(head: bytes) -> bool:
    """An object with a first key, or a list of such."""
    return re.match(rb'(\xef\xbb\xbf)?\s*(\[\s*)?\{\s*"(?:[^"\\]|\\.)*"\s*:', head) is not None


def is_parquet(head: bytes) -> bool:
    return head.startswith(b"PAR1")


def is_arrow_file(head: bytes) -> bool:
    return head.startswith(b"ARROW1\0\0")


def is_arrow_stream(head: bytes) -> bool:
    """A message of format 1.0, whose metadata begins with a table of flatbuffers."""
    size = int.from_bytes(head[4:8], "little")
    return head.startswith(b"\xff\xff\xff\xff") and 16 <= size < 1 << 28 and size % 8 == 0


def from_json_lines(stream: Peek, o: Options) -> Iterator[str]:
    chosen = o.field
    for number, line in enumerate(stream.buffered(), 1):
        text = line.decode("utf-8-sig" if number == 1 else "utf-8", "prepare-count").strip()
        if not text:
            continue
        where = f"{stream.name}: line {number}"
        try:
            record = json.loads(text)
        except (ValueError, RecursionError) as e:
            hint = "a JSON document of several lines? One record a line is read; --plain-text reads it as text"
            raise InputError(f"{where} is no JSON ({e}); {hint}") from e
        require(isinstance(record, dict), f"{where} is no JSON object, but JSON lines are one object a line")
        chosen = chosen or choose({k: isinstance(v, str) for k, v in record.items()}, where)
        require(chosen in record, f"{where} has no field {chosen!r}; --field names another: {', '.join(record)}")
        yield _text(record[chosen], chosen, where, o)


def from_parquet(stream: Peek, o: Options) -> Iterator[str]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        file = pq.ParquetFile(stream.seekable_file(o.folder))
        name = o.field or choose(_text_columns(file.schema_arrow), stream.name)
        _check_column(file.schema_arrow, name, stream.name)
        yield from _column(file.iter_batches(ROWS, columns=[name]), name, stream.name, o)
    except (pa.ArrowException, OSError) as e:
        raise InputError(f"{stream.name}: damaged Parquet file: {_first_line(e)}") from e


def from_arrow_stream(stream: Peek, o: Options) -> Iterator[str]:
    import pyarrow as pa

    try:
        reader = pa.ipc.open_stream(stream.buffered())
        name = o.field or choose(_text_columns(reader.schema), stream.name)
        _check_column(reader.schema, name, stream.name)
        yield from _column(reader, name, stream.name, o)
    except (pa.ArrowException, OSError) as e:
        raise InputError(f"{stream.name}: damaged Arrow file: {_first_line(e)}") from e


def from_arrow_file(stream: Peek, o: Options) -> Iterator[str]:
    import pyarrow as pa

    try:
        reader = pa.ipc.open_file(stream.seekable_file(o.folder))
        name = o.field or choose(_text_columns(reader.schema), stream.name)
        _check_column(reader.schema, name, stream.name)
        batches = (reader.get_batch(i) for i in range(reader.num_record_batches))
        yield from _column(batches, name, stream.name, o)
    except (pa.ArrowException, OSError) as e:
        raise InputError(f"{stream.name}: damaged Arrow file: {_first_line(e)}") from e


def files_of_folder(path: str) -> list[str]:
    """The Arrow files of a data set that `save_to_disk` wrote."""
    if os.path.exists(os.path.join(path, "dataset_dict.json")):
        splits = sorted(d.name for d in os.scandir(path) if d.is_dir())
        raise InputError(f"{path}: is a data set with splits; name one: {', '.join(f'{path}/{s}' for s in splits)}")
    try:
        with open(os.path.join(path, "state.json"), encoding="utf-8") as f:
            state = json.load(f)
        names = [entry["filename"] for entry in state["_data_files"]]
    except FileNotFoundError as e:
        raise InputError(f"{path}: is a folder; name the files in it") from e
    except (ValueError, KeyError, TypeError) as e:
        raise InputError(f"{path}/state.json: not as datasets writes it: {e}") from e
    require(not state.get("_indices_data_files"), f"{path}: holds selected rows; save it after flatten_indices()")
    return [os.path.join(path, name) for name in names]


def choose(fields: dict[str, bool], where: str) -> str:
    """The field that holds the text: "text", else the only one that is text."""
    if fields.get("text"):
        return "text"
    texts = [name for name, is_text in fields.items() if is_text]
    if len(texts) == 1:
        return texts[0]
    which = f"several fields of text ({', '.join(texts)})" if texts else f"no field of text ({', '.join(fields)})"
    raise InputError(f"{where} has {which}; name one by --field")


def _text(value: Any, field: str, where: str, o: Options) -> str:
    """The text of a field; null is an empty document."""
    if value is None:
        return ""
    require(isinstance(value, str), f"{where}: field {field!r} is not text")
    if not value.isascii() and SURROGATE.search(value):
        value, n = SURROGATE.subn("\ufffd", value)
        o.counts.replaced += n
    return value


def _column(batches: Iterable[Any], name: str, where: str, o: Options) -> Iterator[str]:
    for batch in batches:
        column = batch.column(batch.schema.get_field_index(name))
        try:
            values = column.to_pylist()
        except UnicodeDecodeError as e:
            raise InputError(f"{where}: field {name!r} is no UTF-8 text") from e
        yield from (value if value is not None else "" for value in values)


def _text_columns(schema: Any) -> dict[str, bool]:
    return {f.name: _is_text(f.type) for f in schema}


def _is_text(kind: Any) -> bool:
    return str(getattr(kind, "value_type", kind)) in ("string", "large_string", "string_view") and "list" not in str(
        kind
    )


def _check_column(schema: Any, name: str, where: str) -> None:
    columns = _text_columns(schema)
    require(name in columns, f"{where}: no field {name!r}; --field names another: {', '.join(columns)}")
    require(columns[name], f"{where}: field {name!r} is not text")


def _first_line(e: Exception) -> str:
    return str(e).partition("\n")[0]
