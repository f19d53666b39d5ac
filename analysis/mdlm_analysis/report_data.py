"""What mdlm-analysis report shows of a run: everything that the files in its folder hold, read by mdlm_h5.

A file that is damaged or of a newer version does not end the report: it is listed with the reason.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import mdlm_h5
from mdlm_analysis.runs import Run, read_runs

Values = dict[str, Any]


@dataclass
class Contents:
    """A run and the files of its folder, by format and name."""

    series: Run
    attributes: Values  # of metrics.h5
    deck: dict[str, Values]
    drawn: list[mdlm_h5.Drawn]  # samples of training
    checkpoints: dict[Path, mdlm_h5.Checkpoint] = field(default_factory=dict)
    evaluations: dict[Path, mdlm_h5.Evaluation] = field(default_factory=dict)
    scores: dict[Path, mdlm_h5.Evaluation] = field(default_factory=dict)
    samples: dict[Path, mdlm_h5.Samples] = field(default_factory=dict)
    profiles: dict[Path, mdlm_h5.Profile] = field(default_factory=dict)
    unread: dict[str, str] = field(default_factory=dict)  # name of a file → why it was not read

    @property
    def name(self) -> str:
        return self.series.name

    @property
    def folder(self) -> Path:
        return self.series.path.parent

    @property
    def keys(self) -> Values:
        """section.key → value"""
        return {f"{section}.{key}": value for section, keys in self.deck.items() for key, value in keys.items()}


def read_contents(paths: Sequence[Path]) -> list[Contents]:
    """Of runs' folders or their metrics.h5; of a checkpoint, only what that file holds."""
    return [_contents(series) for series in read_runs(paths)]


def _contents(series: Run) -> Contents:
    history = mdlm_h5.metrics(series.path)
    deck = mdlm_h5.deck(str(history.attributes.get("deck", "")))
    found = Contents(series, history.attributes, deck, history.samples)
    alone = series.path.name != "metrics.h5"
    for file in [series.path] if alone else sorted(found.folder.glob("*.h5")):
        _add(found, file)
    return found


def _add(found: Contents, file: Path) -> None:
    kinds = {
        "mdlm-checkpoint": (mdlm_h5.checkpoint, found.checkpoints),
        "mdlm-eval": (mdlm_h5.evaluation, found.evaluations),
        "mdlm-score": (mdlm_h5.score, found.scores),
        "mdlm-samples": (mdlm_h5.samples, found.samples),
        "mdlm-profile": (mdlm_h5.profile, found.profiles),
    }
    try:
        read, kept = kinds.get(mdlm_h5.format_of(file), (None, {}))
        if read:
            kept[file] = read(file)
    except mdlm_h5.FormatError as e:
        found.unread[file.name] = str(e)


def data_files(run: Contents) -> dict[str, Values]:
    """role → attributes of the data: of the file itself where the deck's path still leads to it, else what checkpoints
    and evaluations recorded."""
    found: dict[str, Values] = {}
    newest = max(run.checkpoints.values(), key=lambda c: c.step, default=None)
    if newest:
        found["training"] = _recorded(newest.attributes) | {
            "tokenizer": newest.vocabulary.attributes.get("tokenizer", ""),
            "vocabulary": len(newest.vocabulary.tokens),
            "digest": newest.attributes.get("data_digest", ""),
        }
    for role, key in (("training", "train"), ("validation", "valid")):
        _add_file(found, role, run.deck.get("data", {}).get(key, ""))
    for file, e in run.evaluations.items():
        found[file.name] = _recorded(e.attributes) | {"file": e.attributes.get("data", "")}
        found[file.name]["digest"] = e.attributes.get("data_digest", "")
        found[file.name]["rows"] = len(e.tokens)
    return found


RECORDED = "source split length tokenizer wrap detokenizer framing protocol variant dataset".split()
FROM_FILE = (
    "source split revision dataset protocol variant framing wrap map_batch shards add_eos add_special detokenizer field "
    "document_unit documents scored scored_tokens bytes words truncated_documents truncated_tokens dropped_tokens "
    "replaced_bytes unknown_tokens lost_characters created command digest"
).split()


def _recorded(attributes: Values) -> Values:
    return {name: attributes[name] for name in RECORDED if name in attributes}


def _add_file(found: dict[str, Values], role: str, path: str) -> None:
    """A list of files or one that has moved adds its name only."""
    if not path:
        return
    entry = found.setdefault(role, {})
    entry["file"] = path
    if not Path(path).is_file():
        return
    try:
        data = mdlm_h5.data(path)
    except mdlm_h5.FormatError:
        return
    if entry.get("digest", data.attributes.get("digest")) != data.attributes.get("digest"):
        entry["file"] = f"{path} (has other rows now)"
        return
    entry |= {name: data.attributes[name] for name in FROM_FILE if name in data.attributes}
    entry |= {"rows": data.shape[0], "length": data.shape[1], "vocabulary": len(data.vocabulary.tokens)}
    entry["tokenizer"] = data.vocabulary.attributes.get("tokenizer", "")
