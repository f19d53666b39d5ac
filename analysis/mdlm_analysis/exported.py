"""A checkpoint of ours as public code describes it: which code can load it, and what that code does not have."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import mdlm_h5
from mdlm_analysis.blocks import EPS, PLAIN, WHOLE
from mdlm_analysis.families import TIMED, Family
from mdlm_data.errors import InputError

REWEIGHTED = ("change_of_variables", "importance_sampling")
DEFAULTS: dict[str, Any] = {"heads": 12, "mlp_ratio": 4, "dropout": 0.1, "time_conditioning": False, "T": 0}
DEFAULTS |= {"objective": "subs", "schedule": "loglinear", "subs_masking": False, "sigma_min": 1e-3, "sigma_max": 0.0}
DEFAULTS |= {"schedule_eps": 1e-3, "sampling_eps": 1e-3, "mask_padding": False, "block": 0, "weight": "elbo"}
DEFAULTS |= {"classes": 0, "time": "uniform", "clip_low": 0.3, "clip_high": 0.8} | dict.fromkeys(REWEIGHTED, False)


class Exported:
    """kind: the public code, gpt2, bd3lm, duo or mdlm."""

    def __init__(self, family: Family, c: mdlm_h5.Checkpoint, path: Path) -> None:
        self.family, self.checkpoint, self.path = family, c, path
        self.keys = DEFAULTS | c.deck.get("model", {}) | c.deck.get("diffusion", {})
        self.keys["importance_sampling"] |= self.keys["time"] == "importance"  # the public code's name, once ours too
        self.heads = int(self.keys["heads"])
        self.blocks, self.width = family.blocks(c.shapes), c.shapes[family.embedding][1]
        self.cond = c.shapes.get(TIMED, (128,))[0]
        self.kind = self._kind()

    def _kind(self) -> str:
        block = int(self.keys["block"])
        if self.family.name == "gpt2":
            return "gpt2"
        if self.keys["objective"] == "uniform":
            return "duo"
        # one block that is the whole row is plain MDLM; without conditioning MDLM has causal networks only
        return "bd3lm" if block and (block != self.checkpoint.length or not self.family.timed) else "mdlm"

    def refuse(self, lightning: bool) -> None:
        """Checkpoints whose weights mean nothing to public code, though the names of their parameters are its own."""
        lacks = ""
        if self.kind == "duo" and self.family.name != "dit":
            lacks = f"the public code of uniform noise has no {self.family.name}"
        elif self.kind == "gpt2" and lightning:
            lacks = "gpt2 is no network of the reference, which reads .ckpt; export to a folder"
        elif self.kind == "bd3lm" and not self.family.timed and lightning:
            lacks = "without conditioning on time BD3-LM has blocks in its hub model only; export to a folder"
        if lacks:
            raise InputError(f"{self.path}: {lacks}")

    def clip(self) -> tuple[float, float]:
        """The times of training of block diffusion."""
        clipped = self.keys["time"] == "clip"
        return (float(self.keys["clip_low"]), float(self.keys["clip_high"])) if clipped else WHOLE

    def foreign(self) -> Iterator[str]:
        """Settings that the public code does not have, as sentences."""
        if self.kind == "gpt2":
            return
        usual = {"mlp_ratio": 4, "mask_padding": False, "classes": 0}
        usual |= {"schedule_eps": 1e-3} if self.kind == "mdlm" else {}
        usual |= {"schedule": "loglinear"} if self.kind in ("bd3lm", "duo") else {}
        if self.kind == "bd3lm":
            low, _ = self.clip()
            usual |= {"weight": "one" if low > PLAIN else "elbo"}
            usual |= {} if self.keys["schedule_eps"] <= 100 * EPS else {"schedule_eps": EPS}
            usual |= {} if self.keys["time"] == "clip" else {"time": "uniform"}
        for name, value in usual.items():
            if self.keys[name] != value and (name, self.family.name) != ("mlp_ratio", "dimamba"):
                yield f"{name} is {self.keys[name]}, which public code does not have: there it is {value}"

    def ends(self) -> dict[str, float]:
        """sigma(0) and sigma(1) of the schedules that have them."""
        usual = {"linear": 7.0, "geometric": 1.0}.get(self.keys["schedule"])
        most = self.keys["sigma_max"] or usual
        return {"sigma_min": self.keys["sigma_min"], "sigma_max": most} if usual else {}

    def decay(self) -> float:
        return float(self.checkpoint.deck.get("train", {}).get("ema", 0.9999))
