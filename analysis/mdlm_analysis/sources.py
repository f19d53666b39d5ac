"""Weights of other programs: one file, shards with an index, or a folder as a hub distributes it."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mdlm_analysis.families import embedding_in
from mdlm_analysis.pytorch_file import plain, pytorch_open
from mdlm_analysis.safetensors_file import safetensors_open
from mdlm_analysis.tensors import Tensor
from mdlm_data.errors import InputError, require

Named = dict[str, Tensor]
PYTORCH = (".ckpt", ".pt", ".pth", ".bin")
INDEX = ".index.json"
HUB = ("model.safetensors", "model.safetensors" + INDEX, "pytorch_model.bin", "pytorch_model.bin" + INDEX)


@dataclass
class Source:
    """The live weights and, in a Lightning checkpoint, their moving average; what the file says of the network."""

    path: Path
    live: Named
    average: list[Tensor] | Named | None = None  # a list: in the order of `live` without buffers
    step: int = 0
    config: dict[str, Any] | None = None
    config_name: str = ""  # where config was found, for messages


def source_open(path: Path) -> Source:
    file = _in_folder(path) if path.is_dir() else path
    if file.name.endswith(INDEX):
        found = Source(path, _sharded(file))
    elif file.suffix in PYTORCH:
        found = _pytorch(file)
    else:
        found = Source(path, safetensors_open(file))
    beside = file.parent / "config.json"
    if found.config is None and beside.is_file():
        found.config, found.config_name = read_json(beside), str(beside)
    return found


def read_json(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_bytes())
    except ValueError as e:
        raise InputError(f"{path}: not JSON: {e}; copy it again") from e
    require(isinstance(found, dict), f"{path}: holds no JSON object; copy it again")
    return found


def _in_folder(folder: Path) -> Path:
    for name in HUB:
        if (folder / name).is_file():
            return folder / name
    found = sorted(p for p in folder.iterdir() if p.suffix in (".safetensors", *PYTORCH) and p.is_file())
    if len(found) == 1:
        return found[0]
    names = ", ".join(p.name for p in found)
    raise InputError(
        f"{folder}: holds several files of weights: {names}; name one of them"
        if found
        else f"{folder}: holds no weights: no model.safetensors, pytorch_model.bin or index of their shards"
    )


def _sharded(index: Path) -> Named:
    """The tensors of all shards, each from the file that the index names."""
    files = read_json(index).get("weight_map")
    if not isinstance(files, dict) or not all(isinstance(name, str) for name in files.values()):
        raise InputError(f"{index}: not an index of shards: no weight_map of file names in it")
    shards: dict[str, Named] = {}
    for name in sorted(set(files.values())):
        require(Path(name).name == name, f"{index}: names a shard outside its folder: {name}")
        path = index.parent / name
        require(path.is_file(), f"{index}: its shard {name} is missing; copy it again")
        shards[name] = _one_set(path, pytorch_open(path))[0] if path.suffix in PYTORCH else safetensors_open(path)
    for tensor, name in files.items():
        require(tensor in shards[name], f"{index}: {tensor} is not in its shard {name}; copy both again")
    return {tensor: shards[name][tensor] for tensor, name in files.items()} | {
        tensor: t for shard in shards.values() for tensor, t in shard.items() if tensor not in files
    }


# ---- PyTorch files


def _pytorch(path: Path) -> Source:
    state = pytorch_open(path)
    live, average = _one_set(path, state)
    ema = state.get("ema")
    shadow = ema.get("shadow_params") if isinstance(ema, dict) else None
    if isinstance(shadow, list) and shadow:
        average = shadow
    step = state.get("global_step", 0)
    hyper = plain(state.get("hyper_parameters"))
    config = hyper.get("config", hyper) if isinstance(hyper, dict) else None
    if not isinstance(config, dict) or not config:
        config = None
    name = f"the hyper-parameters in {path}" if config else ""
    return Source(path, live, average, step if isinstance(step, int) else 0, config, name)


def _one_set(path: Path, state: Any) -> tuple[Named, Named | None]:
    """The weights in nested dictionaries, and a moving average with names, which is beside them under a key with `ema`."""
    if not isinstance(state, dict):
        raise InputError(f"{path}: holds no dictionary of weights")
    sets = dict(_sets(state, ""))
    averages = [k for k in sets if re.search(r"(^|[._])ema([._]|$)", k)]
    lives = [k for k in sets if k not in averages] or averages
    if len(lives) > 1 or len(averages) > 1:
        raise InputError(f"{path}: holds several sets of weights: {', '.join(sets)}; save the one to convert alone")
    if not lives:  # nothing of ours: the caller names the first parameters
        return dict(_flat(state, "")), None
    return sets[lives[0]], sets[averages[0]] if averages and averages != lives else None


def _sets(state: dict, path: str) -> Iterator[tuple[str, Named]]:
    """The innermost dictionaries that hold a whole network, by their keys joined by dots."""
    flat = dict(_flat(state, ""))
    inner = [
        found
        for key, value in state.items()
        if isinstance(value, dict)
        for found in _sets(value, f"{path}.{key}".lstrip("."))
    ]
    if inner:
        yield from inner
    elif embedding_in(flat) is not None:
        yield path or "/", flat


def _flat(state: dict, lead: str) -> Iterator[tuple[str, Tensor]]:
    for key, value in state.items():
        if isinstance(value, dict):
            yield from _flat(value, f"{lead}{key}.")
        elif hasattr(value, "read"):
            yield f"{lead}{key}", value
