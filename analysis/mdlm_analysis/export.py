"""Metrics, deck and samples of runs for other programs: TensorBoard's event files, or an offline run of wandb."""

from __future__ import annotations

import argparse
import math
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mdlm_data.errors import InputError, require
from mdlm_data.output import replacing

if TYPE_CHECKING:
    from mdlm_analysis.report_data import Contents

HELP = "metrics, deck and samples of runs for TensorBoard or wandb"
EXAMPLE = "export runs/a runs/b --tensorboard events"
MOST_TEXTS = 16  # samples of a file


def add_arguments(p: argparse.ArgumentParser) -> None:
    p.add_argument("runs", nargs="+", type=Path, metavar="RUN", help="a run's folder, a metrics.h5 or a checkpoint")
    p.add_argument("--tensorboard", type=Path, metavar="DIR", help="write event files to DIR/NAME of each run")
    p.add_argument(
        "--wandb", type=Path, metavar="DIR", help="write offline runs to DIR/wandb; `wandb sync` uploads them"
    )
    p.add_argument("--project", default="mdlm", metavar="NAME", help="of wandb (default: mdlm)")


def run(o: argparse.Namespace) -> list[Path]:
    """Write the files; their names."""
    from mdlm_analysis.report_data import read_contents

    require(o.tensorboard or o.wandb, "nothing to write: name --tensorboard DIR, --wandb DIR or both")
    client = _wandb() if o.wandb else None
    runs = read_contents(o.runs)
    written = [_tensorboard(r, o.tensorboard) for r in runs] if o.tensorboard else []
    return written + ([_offline(client, r, o.wandb, o.project) for r in runs] if o.wandb else [])


def points(r: Contents) -> Iterator[tuple[int, float, str, float, str]]:
    """Step, time, name, value and description of each finite value, in the order of steps. The time is that of the last
    start and the seconds of training since; what came before a restart is put directly before it."""
    import numpy as np

    from mdlm_analysis import metrics

    began, seconds = start(r), r.series.train.get("seconds")
    times = metrics.elapsed(seconds.values) if seconds else np.zeros(0)
    times = began + times - (times[-1] - seconds.values[-1] if len(times) else 0)
    found = []
    for part, series in (("train", r.series.train), ("valid", r.series.valid)):
        for name in series.keys() - {"step"}:
            s = series[name]
            about = s.description + (f" [{s.unit}]" if s.unit not in ("", "1") else "")
            at = np.interp(s.steps, seconds.steps, times) if len(times) else np.full(len(s.steps), began)
            for step, time, value in zip(s.steps, at, s.values):
                if math.isfinite(value):
                    found.append((int(step), float(time), f"{part}/{name}", float(value), about))
    yield from sorted(found, key=lambda point: (point[0], point[2]))


def start(r: Contents) -> float:
    """Seconds since 1970 at the last start of the run; 0: the file does not say."""
    try:
        return datetime.strptime(str(r.attributes.get("started", "")), "%Y-%m-%dT%H:%M:%S%z").timestamp()
    except ValueError:
        return 0.0


# ---- TensorBoard


def _tensorboard(r: Contents, folder: Path) -> Path:
    """One event file, the same each time."""
    from mdlm_analysis import events

    path = folder / r.name.lstrip("/") / "events.out.tfevents.0000000000.mdlm"
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as partial, open(partial, "wb") as out:
        events.write(out, _events(r))
    return path


def _events(r: Contents) -> Iterator[bytes]:
    from mdlm_analysis import events

    began = start(r)
    yield events.header(began)
    if r.attributes.get("deck"):
        yield events.text(began, 0, "deck", _verbatim(str(r.attributes["deck"])))
    described: set[str] = set()
    for step, time, name, value, about in points(r):
        yield events.scalar(time, step, name, value, "" if name in described else about)
        described.add(name)
    for file, s in r.samples.items():
        for k, words in enumerate(s.text[:MOST_TEXTS]):
            yield events.text(began, int(s.attributes.get("step", 0)), f"{file.stem}/{k}", _verbatim(words))


def _verbatim(text: str) -> str:
    """As a block of code, in which Markdown changes nothing."""
    return "".join(f"    {line}\n" for line in text.splitlines())


# ---- wandb


def _wandb() -> Any:
    try:
        import wandb
    except ModuleNotFoundError as e:
        import sys

        raise InputError(f"--wandb needs the Python package wandb: {sys.executable} -m pip install wandb") from e
    return wandb


def _offline(wandb: Any, r: Contents, folder: Path, project: str) -> Path:
    """A run that wandb keeps on this disk; nothing is sent."""
    folder.mkdir(parents=True, exist_ok=True)
    settings = wandb.Settings(console="off", disable_git=True, silent=True)
    made = wandb.init(mode="offline", project=project, name=r.name, config=r.keys, dir=folder, settings=settings)
    rows: dict[int, dict[str, float]] = {}
    for step, _, name, value, _ in points(r):
        rows.setdefault(step, {})[name] = value
    for step, row in rows.items():
        made.log(row, step=step)
    for file, s in r.samples.items():
        texts = [[words, float(entropy)] for words, entropy in zip(s.text[:MOST_TEXTS], s.entropy)]
        made.log({file.stem: wandb.Table(columns=["text", "entropy"], data=texts)})
    written = Path(made.dir).parent
    made.finish()
    return written
