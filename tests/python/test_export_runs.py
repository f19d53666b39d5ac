"""mdlm-analysis export: event files with the bytes of TensorBoard's own, all values of the metrics, offline runs of wandb."""

from __future__ import annotations

import io
import struct
import sys
from collections.abc import Iterator
from pathlib import Path

import h5py
import numpy as np
import pytest
from conftest import Call
from test_plot import make_run

import mdlm_h5
from mdlm_analysis import events, metrics
from mdlm_analysis.runs import read_runs

# Event(wall_time=1.5, file_version="brain.Event:2") as tensorboard.summary.writer.record_writer writes it
FIRST = "1800000000000000a37f4b2209000000000000f83f1a0d627261696e2e4576656e743a322a28646c"
# SerializeToString of TensorBoard 2.21's Event with a scalar and its description, and with a text
SCALAR = "09000050c059c2da4110ac022a260a240a046c6f737315000050404a170a090a077363616c6172731a0a6c6f7373205b6e61745d"
TEXT = "0900000000000000402a220a200a046465636b420c08071204120208014202c3a94a0a0a060a04746578742002"
WORDS = ["<b>bold</b> and\n# a line", "another é"]


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A run with a deck, a start, samples, a restart and a NaN."""
    at = make_run(tmp_path / "a run")
    with h5py.File(at / "metrics.h5", "a") as f:
        f.attrs["deck"], f.attrs["started"] = 'run:\n{\n  dir = "a run";\n}\n', "2026-11-27T11:18:25+0000"
        f["train/seconds"][...] = [*range(1, 21), *range(1, 21)]
        f["train/grad_norm"][3] = np.nan
    with h5py.File(at / "samples.h5", "w") as f:
        f.attrs["format"], f.attrs["format_version"], f.attrs["step"] = "mdlm-samples", 1, 40
        f["tokens"], f["entropy"] = np.zeros((2, 4), int), np.zeros(2)
        f.create_dataset("text", data=WORDS, dtype=h5py.string_dtype())
    return at


def test_bytes_are_those_of_tensorboard() -> None:
    out = io.BytesIO()
    events.write(out, iter([events.header(1.5)]))
    assert out.getvalue().hex() == FIRST and events.crc32c(b"123456789") == 0xE3069283
    assert events.scalar(1795778305.25, 300, "loss", 3.25, "loss [nat]").hex() == SCALAR
    assert events.text(2, 0, "deck", "é").hex() == TEXT


def fields(message: bytes) -> Iterator[tuple[int, object]]:
    """Number and value of each field."""
    at = 0

    def varint() -> int:
        nonlocal at
        n = shift = 0
        while True:
            at += 1
            n |= (message[at - 1] & 127) << shift
            shift += 7
            if message[at - 1] < 128:
                return n

    while at < len(message):
        field, wire = divmod(varint(), 8)
        size = {0: 0, 1: 8, 5: 4}.get(wire) if wire != 2 else varint()
        data = varint() if wire == 0 else message[at : at + size]
        at += size
        yield field, struct.unpack("<d", data)[0] if wire == 1 else struct.unpack("<f", data)[0] if wire == 5 else data


def points(path: Path) -> dict[str, list[tuple[int, float, float]]]:
    """tag → step, time, value"""
    raw, at, found = path.read_bytes(), 0, {}
    while at < len(raw):
        (n,) = struct.unpack_from("<Q", raw, at)
        event = dict(fields(raw[at + 12 : at + 12 + n]))
        at += 16 + n
        if 5 in event:
            value = dict(fields(dict(fields(event[5]))[1]))
            if 2 in value:
                found.setdefault(value[1].decode(), []).append((event.get(2, 0), event[1], value[2]))
    assert at == len(raw)
    return found


def test_all_values_with_their_times(run: Path, analysis: Call, tmp_path: Path) -> None:
    path = tmp_path / "events" / "a run" / "events.out.tfevents.0000000000.mdlm"
    assert analysis("export", run, "--tensorboard", tmp_path / "events") == f"{path}\n"
    found, (read,) = points(path), read_runs([run])
    assert found.keys() == {f"train/{n}" for n in read.train if n != "step"} | {
        f"valid/{n}" for n in read.valid if n != "step"
    }
    for part, series in (("train", read.train), ("valid", read.valid)):
        for name in series.keys() - {"step"}:
            s, mine = series[name], np.array(found[f"{part}/{name}"])
            good = np.isfinite(s.values)
            assert np.array_equal(mine[:, 0], s.steps[good]) and np.allclose(mine[:, 2], s.values[good], rtol=1e-7)
    times = np.array(found["train/loss"])[:, 1] - 1795778305  # 2026-11-27 11:18:25 UTC
    assert np.array_equal(times, metrics.elapsed(read.train["seconds"].values) - 20) and times[-1] == 20
    first = path.read_bytes()
    analysis("export", run, "--tensorboard", tmp_path / "events")
    assert path.read_bytes() == first and len(list(path.parent.iterdir())) == 1


def test_read_by_tensorboard(run: Path, analysis: Call, tmp_path: Path) -> None:
    pytest.importorskip("tensorboard", reason="tensorboard is not installed")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    analysis("export", run, "--tensorboard", tmp_path)
    read = EventAccumulator(str(tmp_path / "a run"), size_guidance={"tensors": 0, "scalars": 0})
    read.Reload()
    loss = [(e.step, e.value) for e in read.Scalars("train/loss")]
    s = mdlm_h5.metrics(run).train["loss"]
    assert np.allclose(loss, list(zip(s.steps, s.values)), rtol=1e-7)
    assert read.SummaryMetadata("train/loss").summary_description == "the train/loss [nat/token]"
    assert read.SummaryMetadata("deck").plugin_data.plugin_name == "text"
    assert read.Tensors("samples/0")[0].tensor_proto.string_val == [b"    <b>bold</b> and\n    # a line\n"]


def test_wandb_that_is_not_installed(
    run: Path, analysis: Call, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setitem(sys.modules, "wandb", None)
    message = analysis("export", run, "--wandb", tmp_path / "w", fails=True)
    assert message.startswith("--wandb needs the Python package wandb: ") and message.endswith("-m pip install wandb")
    assert not (tmp_path / "w").exists()


def test_wandb_offline(run: Path, analysis: Call, tmp_path: Path) -> None:
    pytest.importorskip("wandb", reason="wandb is not installed")
    written = Path(analysis("export", run, "--wandb", tmp_path / "w").strip())
    (log,) = written.glob("*.wandb")
    assert (
        written.parent == tmp_path / "w" / "wandb" and log.stat().st_size > 10_000 and b"train/loss" in log.read_bytes()
    )


def test_nothing_to_write(run: Path, analysis: Call) -> None:
    assert "--tensorboard" in analysis("export", run, fails=True)
