"""mdlm-prepare --label-field: the class of each row, from any form of records, with and without names."""

from __future__ import annotations

import json
from pathlib import Path

import h5py
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import mdlm_h5

TEXTS = [f"text {i} of so many words" for i in range(12)]
NAMES = [
    "verse",
    "news",
    "verse",
    None,
    "prose",
    "news",
    "prose",
    "verse",
    "news",
    "news",
    "prose",
    "verse",
]
NUMBERS = [2, 0, 2, -1, 1, 0, 1, 2, 0, 0, 1, 2]  # of the sorted names
OPTIONS = (
    "--tokenizer",
    "text8",
    "--documents",
    "line",
    "--length",
    16,
    "--no-wrap",
    "--label-field",
    "genre",
)


def json_lines(path: Path, labels: list) -> None:
    records = [{"text": text, "genre": label} for text, label in zip(TEXTS, labels)]
    for record in records:
        if record["genre"] is None:
            del record["genre"]
    path.write_text("".join(json.dumps(r) + "\n" for r in records))


def table(labels: list, kind: pa.DataType | None = None) -> pa.Table:
    return pa.table({"text": TEXTS, "genre": pa.array(labels, kind)})


def write(path: Path, form: str, labels: list) -> None:
    if form == "json":
        json_lines(path, labels)
    elif form == "parquet":
        pq.write_table(table(labels), path, row_group_size=5)
    elif form == "dictionary":
        pq.write_table(table(labels, pa.dictionary(pa.int32(), pa.string())), path)
    else:
        make = pa.ipc.new_stream if form == "stream" else pa.ipc.new_file
        with open(path, "wb") as f, make(f, table(labels).schema) as writer:
            writer.write_table(table(labels), max_chunksize=5)


def labels_of(path: Path) -> tuple[list[int], int, str]:
    with h5py.File(path) as f:
        assert f["label"].dtype == np.int32 and len(f["label"]) == len(f["tokens"])
        return (
            f["label"][:].tolist(),
            int(f["label"].attrs["classes"]),
            str(f["label"].attrs["names"]),
        )


@pytest.mark.parametrize("form", ["json", "parquet", "dictionary", "stream", "file"])
def test_names_get_numbers_in_their_order(prepare, tmp_path: Path, form: str) -> None:
    write(tmp_path / "in", form, NAMES)
    done = prepare("in", *OPTIONS, "--out", "a.h5")
    assert labels_of(tmp_path / "a.h5") == (NUMBERS, 3, "news\nprose\nverse")
    assert "labels: 3 classes, 1 documents without one" in done.stdout.decode()
    data = mdlm_h5.data(tmp_path / "a.h5")
    assert data.labels is not None and data.labels.tolist() == NUMBERS
    assert data.class_names == ["news", "prose", "verse"] and data.attributes["label_field"] == "genre"


@pytest.mark.parametrize("form", ["json", "parquet"])
@pytest.mark.parametrize("chunk_rows", [0, 4])
def test_integers_are_their_numbers(prepare, tmp_path: Path, form: str, chunk_rows: int) -> None:
    write(tmp_path / "in", form, [None if i == 4 else 5 - i % 4 for i in range(12)])
    prepare("in", *OPTIONS, "--chunk-rows", chunk_rows, "--out", "a.h5")
    assert labels_of(tmp_path / "a.h5") == (
        [-1 if i == 4 else 5 - i % 4 for i in range(12)],
        6,
        "",
    )


def test_the_names_of_a_class_label(prepare, tmp_path: Path) -> None:
    """Hugging Face's datasets store numbers, and the names in the schema."""
    names = {"names": ["verse", "news", "prose"], "_type": "ClassLabel"}
    about = json.dumps({"info": {"features": {"text": {}, "genre": names}}})
    numbers = [-1 if n is None else names["names"].index(n) for n in NAMES]
    pq.write_table(table(numbers).replace_schema_metadata({"huggingface": about}), tmp_path / "in")
    prepare("in", *OPTIONS, "--out", "a.h5")
    assert labels_of(tmp_path / "a.h5") == (NUMBERS, 3, "news\nprose\nverse")


def test_both_parts_of_a_split_have_the_same_classes(prepare, tmp_path: Path) -> None:
    """The class of the last documents comes before those of the first ones, and does not occur among them."""
    write(tmp_path / "in", "json", ["z"] * 5 + ["y"] * 5 + ["a"] * 2)
    prepare(
        "in",
        *OPTIONS,
        "--out-train",
        "t.h5",
        "--out-valid",
        "v.h5",
        "--valid-documents",
        3,
        "--processes",
        2,
    )
    assert labels_of(tmp_path / "t.h5") == ([2] * 5 + [1] * 4, 3, "a\ny\nz")
    assert labels_of(tmp_path / "v.h5") == ([1, 0, 0], 3, "a\ny\nz")


def test_the_classes_of_another_file(prepare, tmp_path: Path) -> None:
    write(tmp_path / "in", "json", NAMES)
    write(tmp_path / "other", "json", ["verse"] * 12)
    prepare("in", *OPTIONS, "--out", "a.h5")
    prepare("other", *OPTIONS, "--label-classes", "a.h5", "--out", "b.h5")
    assert labels_of(tmp_path / "b.h5") == ([2] * 12, 3, "news\nprose\nverse")
    write(tmp_path / "other", "json", ["letters"] * 12)
    error = prepare("other", *OPTIONS, "--label-classes", "a.h5", "--out", "c.h5", fails=True).stderr.decode()
    assert "'letters'" in error and not (tmp_path / "c.h5").exists()


def test_the_digest_covers_the_labels(prepare, tmp_path: Path) -> None:
    digests = set()
    for i, labels in enumerate((NAMES, NAMES[::-1])):
        write(tmp_path / "in", "json", labels)
        prepare("in", *OPTIONS, "--out", f"{i}.h5")
        with h5py.File(tmp_path / f"{i}.h5") as f:
            digests.add(f.attrs["digest"])
    assert len(digests) == 2


def test_retokenize_keeps_the_labels(prepare, tmp_path: Path) -> None:
    from mdlm_data.retokenize import main

    write(tmp_path / "in", "json", NAMES)
    prepare("in", *OPTIONS, "--out", "a.h5")
    assert (
        main(
            [
                str(tmp_path / "a.h5"),
                "--tokenizer",
                "chars:a-z ",
                "--out",
                str(tmp_path / "b.h5"),
            ]
        )
        == 0
    )
    assert labels_of(tmp_path / "b.h5") == labels_of(tmp_path / "a.h5")


BAD = [
    ({"labels": [1.5] * 12}, (), "neither an integer nor a name"),
    ({"labels": [[1]] * 12}, (), "neither an integer nor a name"),
    ({"labels": [-2] * 12}, (), "is -2"),
    ({"labels": [1 << 40] * 12}, (), "numbered from 0"),
    ({"labels": ["a", 1] * 6}, (), "others are names"),
    ({"labels": [1, "a"] * 6}, (), "others are numbers"),
    ({"labels": ["a\nb"] * 12}, (), "one line"),
    ({"labels": [""] * 12}, (), "one line"),
    ({"labels": [None] * 12}, (), "no document has a class"),
    (
        {"labels": [f"{i}" * 9000 for i in range(12)]},
        (),
        "give the classes as integers",
    ),
    (
        {"labels": NAMES, "form": "parquet"},
        ("--label-field", "kind"),
        "no field 'kind'",
    ),
    ({"labels": NAMES}, ("--wrap",), "--no-wrap"),
    ({"labels": NAMES}, ("--plain-text",), "--label-field is for records"),
    ({"labels": NAMES}, ("--label-classes", "plain.h5"), "has no labels"),
    ({"labels": None}, (), "has no fields"),
]


@pytest.mark.parametrize("case", range(len(BAD)))
def test_refusals(prepare, tmp_path: Path, case: int) -> None:
    given, more, word = BAD[case]
    (tmp_path / "text").write_text("some text\nof two lines\n")
    prepare("text", "--tokenizer", "text8", "--length", 16, "--no-wrap", "--out", "plain.h5")
    if given["labels"] is None:
        (tmp_path / "in").write_text("".join(t + "\n" for t in TEXTS))
    else:
        write(tmp_path / "in", given.get("form", "json"), given["labels"])
    error = prepare("in", *OPTIONS, *more, "--out", "a.h5", fails=True).stderr.decode()
    assert word in error and not (tmp_path / "a.h5").exists()
