"""What BD3-LM's configurations say beyond MDLM's: the times of training, and how a token is masked."""

from __future__ import annotations

import re
from typing import Any

from mdlm_analysis.reader import Reader
from mdlm_analysis.tensors import Tensor

EPS = 1e-9  # schedule_eps: BD3-LM masks a token with probability t, MDLM with (1 - 1e-3) t
WHOLE = (1e-3, 1.0)  # the times of training without clipping
ENDS = ("sampling_eps_min", "sampling_eps_max")
PLAIN = 0.5  # a clip that begins above this is trained on plain cross entropy


def clip_of(where: Reader, live: dict[str, Tensor], block: int | None, *paths: str) -> dict[str, Any]:
    """The times of training: of the buffers that the search for the clip fills, else of the configuration."""
    ends = [_scalar(live, name) for name in ENDS]
    if None in ends:
        ends = [where.real(*(path + name for path in paths)) for name in ENDS]
    low, high = (usual if end is None else end for end, usual in zip(ends, WHOLE))
    if (low <= WHOLE[0] and high >= WHOLE[1]) or block == 1:  # a block of one token has no time
        return {}
    if low >= high:
        return {"notes": (f"trained at the time {low:g} alone; training goes on at all times",)}
    return {"clip_low": low, "clip_high": high} | ({"weight": "one"} if low > PLAIN else {})


def noise_of(where: Reader, timed: bool, scaled: bool, noise: str | None) -> dict[str, Any]:
    """The schedule. Where the network takes the noise level, and with `scaled`, it is MDLM's."""
    schedule = where.schedule(noise) if noise else None
    if schedule == "cosine":
        return {"schedule": schedule, "notes": ("its cosine masks 1e-3 at t = 0 and all at t = 1, mdlm's the reverse",)}
    if not timed and not scaled:
        return {"schedule": schedule, "schedule_eps": EPS}
    level = "a token is masked with probability t there, with (1 - 1e-3) t here"
    return {"schedule": schedule} | ({} if scaled else {"notes": (level,)})


def _scalar(live: dict[str, Tensor], name: str) -> float | None:
    """A buffer beside the network, to the digits of a float32."""
    found = [t for key, t in live.items() if re.fullmatch(rf"(.*\.)?{name}", key) and t.shape in ((), (1,))]
    return float(f"{float(found[0].read().reshape(())):.7g}") if found else None
