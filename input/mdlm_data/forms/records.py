"""Records with a field of text: JSON lines, Parquet, Arrow, data sets that Hugging Face's `datasets` saved."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterable, Iterator
from typing import Any

from mdlm_data.errors import InputError, require
from mdlm_data.forms.item import Options, Record
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


def from_json_lines(stream: Peek, o: Options) -> Iterator[Record]:
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
        yield _text(record[chosen], chosen, where, o), record.get(o.label_field) if o.label_field else None


def from_parquet(stream: Peek, o: Options) -> Iterator[Record]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        file = pq.ParquetFile(stream.seekable_file(o.folder))
        name = o.field or choose(_text_columns(file.schema_arrow), stream.name)
        _check_columns(file.schema_arrow, name, stream.name, o)
        columns = [name, o.label_field] if o.label_field else [name]
        yield from _columns(file.iter_batches(ROWS, columns=columns), name, file.schema_arrow, stream.name, o)
    except (pa.ArrowException, OSError) as e:
        raise InputError(f"{stream.name}: damaged Parquet file: {_first_line(e)}") from e


def from_arrow_stream(stream: Peek, o: Options) -> Iterator[Record]:
    import pyarrow as pa

    try:
        reader = pa.ipc.open_stream(stream.buffered())
        name = o.field or choose(_text_columns(reader.schema), stream.name)
        _check_columns(reader.schema, name, stream.name, o)
        yield from _columns(reader, name, reader.schema, stream.name, o)
    except (pa.ArrowException, OSError) as e:
        raise InputError(f"{stream.name}: damaged Arrow file: {_first_line(e)}") from e


def from_arrow_file(stream: Peek, o: Options) -> Iterator[Record]:
    import pyarrow as pa

    try:
        reader = pa.ipc.open_file(stream.seekable_file(o.folder))
        name = o.field or choose(_text_columns(reader.schema), stream.name)
        _check_columns(reader.schema, name, stream.name, o)
        batches = (reader.get_batch(i) for i in range(reader.num_record_batches))
        yield from _columns(batches, name, reader.schema, stream.name, o)
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


def _columns(batches: Iterable[Any], name: str, schema: Any, where: str, o: Options) -> Iterator[Record]:
    classes = _class_names(schema, o.label_field)
    for batch in batches:
        column = batch.column(batch.schema.get_field_index(name))
        try:
            values = column.to_pylist()
        except UnicodeDecodeError as e:
            raise InputError(f"{where}: field {name!r} is no UTF-8 text") from e
        labels = [None] * len(values)
        if o.label_field:
            labels = batch.column(batch.schema.get_field_index(o.label_field)).to_pylist()
        for value, label in zip(values, labels):
            if classes and isinstance(label, int):
                label = classes[label] if 0 <= label < len(classes) else None
            yield value if value is not None else "", label


def _class_names(schema: Any, field: str | None) -> list[str]:
    """The names of a ClassLabel of Hugging Face's datasets, whose column holds their numbers."""
    try:
        about = json.loads((schema.metadata or {}).get(b"huggingface", b"{}"))
        names = about["info"]["features"][field]["names"]
    except (ValueError, KeyError, TypeError):
        return []
    return [str(name) for name in names] if isinstance(names, list) else []


def _text_columns(schema: Any) -> dict[str, bool]:
    return {f.name: _is_text(f.type) for f in schema}


def _is_text(kind: Any) -> bool:
    return str(getattr(kind, "value_type", kind)) in ("string", "large_string", "string_view") and "list" not in str(
        kind
    )


def _check_columns(schema: Any, name: str, where: str, o: Options) -> None:
    columns = _text_columns(schema)
    require(name in columns, f"{where}: no field {name!r}; --field names another: {', '.join(columns)}")
    require(columns[name], f"{where}: field {name!r} is not text")
    label = o.label_field
    require(
        label is None or label in columns, f"{where}: no field {label!r} for the classes, only {', '.join(columns)}"
    )


def _first_line(e: Exception) -> str:
    return str(e).partition("\n")[0]
