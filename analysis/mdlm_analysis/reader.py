"""What evaluation needs beside the weights, and values of configurations by their path."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from mdlm_data.errors import require

SCHEDULES = ("loglinear", "linear", "geometric", "cosine", "cosinesqr")


@dataclass(frozen=True)
class Settings:
    """None: not known."""

    heads: int | None = None
    length: int | None = None
    objective: str | None = None
    block: int | None = None  # 0 or the length: no blocks
    time_conditioning: bool | None = None
    T: int | None = None
    subs_masking: bool | None = None
    change_of_variables: bool | None = None
    importance_sampling: bool | None = None
    schedule: str | None = None
    schedule_eps: float | None = None
    sigma_min: float | None = None
    sigma_max: float | None = None
    sampling_eps: float | None = None
    clip_low: float | None = None  # with clip_high: the times of training
    clip_high: float | None = None
    weight: str | None = None
    dropout: float | None = None
    vocab: int | None = None
    width: int | None = None
    blocks: int | None = None
    classes: int | None = None
    asked: tuple[str, ...] = ()  # what this kind of configuration must tell beyond what all must
    notes: tuple[str, ...] = ()  # what is not kept, as sentences


class Reader:
    """Values of a configuration by their dotted path, the first path that exists; None: absent or not resolvable."""

    def __init__(self, config: dict[str, Any], name: str) -> None:
        self.config, self.name = config, name

    def _find(self, path: str, depth: int = 4) -> Any:
        at: Any = self.config
        for key in path.split("."):
            at = at.get(key) if isinstance(at, dict) else None
        link = re.fullmatch(r"\$\{([\w.]+)\}", at) if isinstance(at, str) else None
        if link:
            return self._find(link[1], depth - 1) if depth else None
        return None if isinstance(at, str) and "${" in at else at

    def _typed(self, kinds: tuple[type, ...], what: str, paths: tuple[str, ...]) -> Any:
        path, value = next(((p, v) for p in paths if (v := self._find(p)) is not None), ("", None))
        if value is None:
            return None
        fits = isinstance(value, kinds) and (bool in kinds or not isinstance(value, bool))
        require(fits, f"{self.name}: {path} is {value!r}, not {what}; correct it there")
        return value

    def number(self, *paths: str) -> int | None:
        return self._typed((int,), "a whole number", paths)

    def real(self, *paths: str) -> float | None:
        return self._typed((int, float), "a number", paths)

    def flag(self, *paths: str) -> bool | None:
        return self._typed((bool,), "true or false", paths)

    def word(self, *paths: str) -> str | None:
        return self._typed((str,), "a word", paths)

    def schedule(self, *paths: str) -> str | None:
        word = (self.word(*paths) or "").replace("-", "") or None
        require(word in (None, *SCHEDULES), f"{self.name}: noise schedule {word}; mdlm has {', '.join(SCHEDULES)}")
        return word
