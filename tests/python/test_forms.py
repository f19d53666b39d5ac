"""Input forms: each gives the documents of the plain text, whatever its name; what is no text is refused."""

from __future__ import annotations

import bz2
import gzip
import io
import json
import lzma
import os
import struct
import tarfile
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import zstandard

from mdlm_data.corpus import Corpus
from mdlm_data.documents import Unit
from mdlm_data.errors import InputError
from mdlm_data.forms import Options, TokenRule

LINES = ["In the beginning", "", "wörds ☃ and “quotes”", "  blanks  inside  ", "x" * 300, '{"no": json', "last"]
PLAIN = "".join(line + "\n" for line in LINES).encode()


def tar(members: dict[str, bytes]) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as f:
        folder = tarfile.TarInfo("folder")
        folder.type = tarfile.DIRTYPE
        f.addfile(folder)
        for name, data in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            f.addfile(info, io.BytesIO(data))
    return out.getvalue()


def halves() -> dict[str, bytes]:
    at = PLAIN.index(b"  blanks")
    return {"folder/b.txt": PLAIN[:at], "a.txt.gz": gzip.compress(PLAIN[at:])}


def json_lines() -> bytes:
    return "".join(json.dumps({"id": i, "text": line}) + "\n" for i, line in enumerate(LINES)).encode()


def parquet(compression: str = "snappy", **columns: list) -> bytes:
    out = io.BytesIO()
    pq.write_table(pa.table(columns or {"n": [*range(len(LINES))], "text": LINES}), out, 3, compression=compression)
    return out.getvalue()


def arrow(kind: str, text: pa.DataType = pa.string()) -> bytes:  # noqa: B008
    out = io.BytesIO()
    table = pa.table({"text": pa.array(LINES).cast(text)})
    make = pa.ipc.new_stream if kind == "stream" else pa.ipc.new_file
    with make(out, table.schema) as writer:
        writer.write_table(table, max_chunksize=2)
    return out.getvalue()


FORMS: dict[str, Callable[[], bytes]] = {
    "plain": lambda: PLAIN,
    "bom": lambda: b"\xef\xbb\xbf" + PLAIN,
    "gzip": lambda: gzip.compress(PLAIN),
    "two gzips": lambda: gzip.compress(PLAIN[:40]) + gzip.compress(PLAIN[40:]),
    "bzip2": lambda: bz2.compress(PLAIN),
    "xz": lambda: lzma.compress(PLAIN),
    "zstd": lambda: zstandard.compress(PLAIN),
    "two zstds": lambda: zstandard.compress(PLAIN[:40]) + zstandard.compress(PLAIN[40:]),
    "tar": lambda: tar(halves()),
    "tar in xz": lambda: lzma.compress(tar(halves())),
    "json lines": json_lines,
    "json lines in zstd": lambda: zstandard.compress(json_lines()),
    "parquet": parquet,
    "parquet in gzip": lambda: gzip.compress(parquet("zstd")),
    "arrow stream": lambda: arrow("stream"),
    "arrow file": lambda: arrow("file"),
    "arrow, large strings": lambda: arrow("stream", pa.large_string()),
    "arrow, dictionary": lambda: arrow("file", pa.dictionary(pa.int32(), pa.string())),
}
RECORDS = ("json", "parquet", "arrow")
BLANK_LINES = [line if line.strip() else "" for line in LINES]


@pytest.mark.parametrize("name", ["in.txt", "in.gz", "in"])
@pytest.mark.parametrize("form", FORMS)
def test_each_form_gives_the_documents_of_the_text(tmp_path: Path, form: str, name: str) -> None:
    (tmp_path / name).write_bytes(FORMS[form]())
    corpus = Corpus([str(tmp_path / name)])
    for _ in range(2):  # it can be read again
        assert list(corpus.texts()) == BLANK_LINES
        assert corpus.units == {"record" if form.startswith(RECORDS) else "line"} and corpus.replaced == 0


@pytest.mark.parametrize("form", FORMS)
def test_each_form_from_a_pipe(tmp_path: Path, form: str) -> None:
    for spool_dir in (None, str(tmp_path)):
        read, write = os.pipe()
        if os.fork() == 0:
            os.close(read)
            with os.fdopen(write, "wb") as f:
                f.write(FORMS[form]())
            os._exit(0)
        os.close(write)
        assert list(Corpus([f"/dev/fd/{read}"], spool_dir=spool_dir).texts()) == BLANK_LINES
        os.close(read)
        os.wait()


@pytest.mark.parametrize("form", ["gzip", "tar in xz", "zstd", "json lines", "parquet", "arrow stream"])
def test_rows_are_those_of_the_text(prepare, tmp_path: Path, form: str) -> None:
    (tmp_path / "plain").write_bytes(PLAIN)
    (tmp_path / "form").write_bytes(FORMS[form]())
    found = []
    for name in ("plain", "form"):
        outputs = ("--out-train", f"{name}.t.h5", "--out-valid", f"{name}.v.h5", "--valid-documents", 2)
        prepare(name, "--tokenizer", "bpe:280", "--length", 16, *outputs)
        with h5py.File(tmp_path / f"{name}.t.h5") as t, h5py.File(tmp_path / f"{name}.v.h5") as v:
            found.append(
                [(f.attrs["digest"], f.attrs["bytes"], f.attrs["words"], f.attrs["documents"]) for f in (t, v)]
            )
    assert found[0] == found[1]


@pytest.mark.parametrize(
    "form", [f for f in FORMS if "gzip" in f or "zstd" in f or f in ("bzip2", "xz", "tar", "parquet")]
)
def test_a_damaged_file_is_refused(tmp_path: Path, form: str) -> None:
    whole = FORMS[form]()
    for end in (1100, 600) if form == "tar" else (len(whole) * 2 // 3, len(whole) - 3):  # tar ends with zeros
        (tmp_path / "in").write_bytes(whole[:end])
        with pytest.raises(InputError, match="damaged|too early|Parquet"):
            list(Corpus([str(tmp_path / "in")]).texts())


@pytest.mark.parametrize(
    ("data", "says"),
    [
        ("some text\n".encode("utf-16"), "UTF-16"),
        ("some text\n".encode("utf-16-le"), "UTF-16"),
        ("some text\n".encode("utf-16-be"), "UTF-16"),
        ("some text\n".encode("utf-32"), "UTF-32"),
        ("élève à l’école, déjà".encode("cp1252"), "8-bit encoding"),
        (bytes(5000), "binary data"),
        (np.random.default_rng(1).bytes(5000), "binary data"),
        (b"text " * 100 + b"\xff" * 6, "8-bit"),
        (b"PK\x03\x04....", "zip archive"),
        (b"%PDF-1.7 all text", "a PDF"),
        (b"\x89HDF\r\n\x1a\n", "HDF5"),
        (gzip.compress(b"\x7fELF...."), "a program"),
        (gzip.compress(gzip.compress(gzip.compress(gzip.compress(gzip.compress(b"text"))))), "more than 4"),
        (tar({"a.png": b"\x89PNG\r\n\x1a\n"}), "in: a.png: looks like a PNG"),
        (b"\x93NUMPY\x01\x00v\x00", "--vocabulary"),
        (b'{"a": 1}\n', "no field of text"),
        (b'{"a": "x", "b": "y"}\n', "several fields of text"),
        (b'{"text": "x"}\n{"text": 5}\n', "line 2: field 'text' is not text"),
        (b'{"text": "x"}\n{"b": "y"}\n', "line 2 has no field 'text'"),
        (b'{"text": "x"}\nhello\n', "line 2 is no JSON"),
        (b'{\n "text": "x"\n}\n', "line 1 is no JSON"),
        (b'[{"text": "x"}]\n', "no JSON object"),
        (parquet(ids=[[1, 2], [3]]), "no field of text"),
        (arrow("stream")[:200], "damaged Arrow"),
    ],
)
def test_what_is_no_text_is_refused_with_what_it_looks_like(tmp_path: Path, data: bytes, says: str) -> None:
    (tmp_path / "in").write_bytes(data)
    with pytest.raises(InputError) as e:
        list(Corpus([str(tmp_path / "in")]).texts())
    assert says in str(e.value) and "\n" not in str(e.value)


def test_invalid_bytes_far_into_the_text_are_refused(tmp_path: Path) -> None:
    (tmp_path / "in").write_bytes(b"good text\n" * 10_000 + b"\xe9t\xe9\n" * 10_000)
    with pytest.raises(InputError, match="of its bytes are NUL or no UTF-8"):
        list(Corpus([str(tmp_path / "in")]).texts())
    corpus = Corpus([str(tmp_path / "in")], options=Options(most_invalid=0.2))
    assert list(corpus.texts())[-1] == "\ufffdt\ufffd" and corpus.replaced == 20_000


def test_nul_and_half_surrogates_are_replaced_and_counted(tmp_path: Path) -> None:
    (tmp_path / "in").write_bytes(b"good text\n" * 100 + b"a\0b\n")
    corpus = Corpus([str(tmp_path / "in")])
    assert list(corpus.texts())[-1] == "a\ufffdb" and corpus.replaced == 1
    (tmp_path / "in").write_bytes(b'{"text": "a\\ud800b\\ud83d\\ude00\\u0000"}\n{"text": null}\n')
    assert list(corpus.texts()) == ["a\ufffdb\U0001f600\ufffd", ""] and corpus.replaced == 2


def test_fields_units_and_plain_json(tmp_path: Path) -> None:
    path = str(tmp_path / "in")
    (tmp_path / "in").write_bytes(b'{"title": "t", "article": "one\\ntwo\\n"}\n')
    assert list(Corpus([path], options=Options(field="article")).texts()) == ["one\ntwo\n"]
    assert list(Corpus([path], Unit("line"), options=Options(field="article")).texts()) == ["one", "two"]
    assert list(Corpus([path], options=Options(plain=True)).texts()) == ['{"title": "t", "article": "one\\ntwo\\n"}']
    (tmp_path / "in").write_bytes(parquet(a=["x"], b=["y"]))
    assert list(Corpus([path], options=Options(field="b")).texts()) == ["y"]
    with pytest.raises(InputError, match="no field 'c'"):
        list(Corpus([path], options=Options(field="c")).texts())


def test_lambada(prepare, tmp_path: Path) -> None:
    (tmp_path / "l.jsonl").write_text('{"text": "\u201cWhere to?\u201d he asked. "}\n{"text": "go"}\n')
    prepare("l.jsonl", "--tokenizer", "chars", "--detokenizer", "lambada", "--length", 32, "--no-wrap", "--out", "o.h5")
    with h5py.File(tmp_path / "o.h5") as f:
        raw, offsets = f["vocab/bytes"][:].tobytes(), f["vocab/offsets"][:].tolist()
        letters = [raw[i:j].decode() for i, j in zip(offsets, offsets[1:])]
        found = ["".join(letters[t] for t in row[1 : n - 1]) for row, n in zip(f["tokens"][:], f["lengths"][:])]
        assert found == ['\n"Where to?" he asked.', "\ngo"]
        assert (f.attrs["bytes"], f.attrs["words"]) == (26 + 2, 4 + 1)  # of the text before the detokenizer
        assert f.attrs["document_unit"] == "record"


def test_folder_that_save_to_disk_wrote(tmp_path: Path) -> None:
    folder = tmp_path / "train"
    folder.mkdir()
    (folder / "data-00000-of-00001.arrow").write_bytes(arrow("stream"))
    state = {"_data_files": [{"filename": "data-00000-of-00001.arrow"}]}
    (folder / "state.json").write_text(json.dumps(state))
    assert list(Corpus([str(folder)]).texts()) == LINES[:3] + BLANK_LINES[3:]
    (folder / "state.json").write_text(json.dumps(state | {"_indices_data_files": [{"filename": "i"}]}))
    with pytest.raises(InputError, match="flatten_indices"):
        Corpus([str(folder)])
    (tmp_path / "dataset_dict.json").write_text("{}")
    with pytest.raises(InputError, match="name one: .*/train"):
        Corpus([str(tmp_path)])


# ---- token ids: bos 1, eos 2

RULE = TokenRule(300, 1, 2, "<u2")
DOCUMENTS = [[5, 6, 7], [], [299], [8, 9]]
ENDED = [i for d in DOCUMENTS for i in [*d, 2]]


def npy(ids: np.ndarray) -> bytes:
    out = io.BytesIO()
    np.save(out, ids)
    return out.getvalue()


def llm_c(ids: list[int], magic: int = 20240520) -> bytes:
    dtype = "<u2" if magic == 20240520 else "<u4"
    return np.array([magic, 1, len(ids), *[0] * 253], "<i4").tobytes() + np.array(ids, dtype).tobytes()


@pytest.mark.parametrize(
    ("data", "documents"),
    [
        (npy(np.array(ENDED, "<u2")), DOCUMENTS),
        (npy(np.array(ENDED, ">i8")), DOCUMENTS),
        (npy(np.array(ENDED[:-1], "<u4")), DOCUMENTS),
        (np.array(ENDED, "<u2").tobytes(), DOCUMENTS),
        (llm_c(ENDED), DOCUMENTS),
        (llm_c([2, *ENDED[:-1]]), DOCUMENTS),  # as llm.c has it: the eos before each document
        (llm_c(ENDED, 20240801), DOCUMENTS),
        (npy(np.array([1, 5, 6, 2, 1, 7, 2], "<u2")), [[5, 6], [7]]),  # each row gets its own bos
        (zstandard.compress(llm_c(ENDED)), DOCUMENTS),
    ],
)
def test_token_ids(tmp_path: Path, data: bytes, documents: list[list[int]]) -> None:
    (tmp_path / "in").write_bytes(data)
    pieces = list(Corpus([str(tmp_path / "in")], options=Options(tokens=RULE)).pieces(None))
    assert joined(pieces) == documents


def joined(pieces: list) -> list[list[int]]:
    found: list[list[int]] = [[]]
    for ids, end in pieces:
        found[-1] += ids.tolist()
        if end:
            found.append([])
    assert not found.pop()
    return found


@pytest.mark.parametrize("name", ["in.bin", "in.idx"])
def test_megatron(tmp_path: Path, name: str) -> None:
    np.array(ENDED, "<i4").tofile(tmp_path / "in.bin")
    lengths = [len(d) + 1 for d in DOCUMENTS]
    pointers = 4 * np.cumsum([0, *lengths[:-1]])
    index = b"MMIDIDX\0\0" + struct.pack("<QBQQ", 1, 4, len(lengths), len(lengths) + 1)
    index += np.array(lengths, "<i4").tobytes() + pointers.astype("<i8").tobytes()
    (tmp_path / "in.idx").write_bytes(index + np.arange(len(lengths) + 1, dtype="<i8").tobytes())
    assert joined(list(Corpus([str(tmp_path / name)], options=Options(tokens=RULE)).pieces(None))) == DOCUMENTS


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (npy(np.array([5, 300], "<u2")), "id 300 at 1 is outside the vocabulary of 300 tokens"),
        (npy(np.array([5, -1], "<i4")), "id -1 at 1"),
        (npy(np.ones((2, 2), "<u2")), "not a list of ids"),
        (npy(np.ones(2)), "not a list of ids"),
        (llm_c(ENDED)[:-2], "ends too early"),
        (b"\x05\x00\x06", "no multiple of 2 bytes"),
        (b"some text", "is text"),
        (b'{"text": "x"}', "is text"),
        (b"PK\x03\x04....", "zip archive"),
    ],
)
def test_bad_token_ids(tmp_path: Path, data: bytes, says: str) -> None:
    (tmp_path / "in").write_bytes(data)
    with pytest.raises(InputError) as e:
        list(Corpus([str(tmp_path / "in")], options=Options(tokens=RULE)).pieces(None))
    assert says in str(e.value)


def test_rows_of_token_ids_are_those_of_their_text(prepare, tmp_path: Path) -> None:
    (tmp_path / "in").write_bytes(PLAIN)
    prepare("in", "--tokenizer", "bpe:280", "--length", 16, "--out", "a.h5")
    from mdlm_data.vocabularies import make_vocabulary

    v = make_vocabulary(f"data:{tmp_path / 'a.h5'}")
    ids = [i for d in v.encode(BLANK_LINES) for i in [*d.tolist(), v.eos]]
    np.array(ids, "<u2").tofile(tmp_path / "ids.bin")
    prepare("ids.bin", "--vocabulary", "data:a.h5", "--length", 16, "--out", "b.h5")
    with h5py.File(tmp_path / "a.h5") as a, h5py.File(tmp_path / "b.h5") as b:
        for name in ("digest", "documents", "bytes", "words", "empty_documents"):
            assert a.attrs[name] == b.attrs[name]
        assert a["vocab"].attrs["hash"] == b["vocab"].attrs["hash"] and b.attrs["document_unit"] == "tokens"
