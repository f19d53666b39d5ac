"""The spectrum of a weight matrix: eigenvalues λ of WᵀW (the squares of the singular values of W), stable rank, tail exponent.

stable rank   ‖W‖_F²/‖W‖₂² = Σ λ / max λ
tail exponent the α of p(λ) ∝ λ^−α for λ ≥ λ_min, by maximum likelihood, which is Hill's estimator:
                  α = 1 + n / Σ ln(λ_i/λ_min) over the n eigenvalues ≥ λ_min,  standard error (α − 1)/√n
              λ_min is the eigenvalue for which the tail is nearest to its power law in Kolmogorov and Smirnov's distance.
              Clauset, Shalizi and Newman, arXiv:0706.1062, Eqs. (3.1), (3.2) and (3.9). It is what WeightWatcher calls alpha:
              Martin, Peng and Mahoney, arXiv:2002.06716."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

FEWEST = 50  # eigenvalues of a matrix whose tail exponent is given


@dataclass(frozen=True)
class Tail:
    alpha: float
    error: float
    minimum: float  # λ_min
    count: int  # n
    distance: float  # of Kolmogorov and Smirnov


def eigenvalues(w: np.ndarray, rows: int = 4096) -> np.ndarray:
    """The min(rows, columns) eigenvalues of WᵀW or WWᵀ, largest first, in double precision."""
    tall = w if w.shape[0] >= w.shape[1] else w.T
    gram = np.zeros((tall.shape[1], tall.shape[1]))
    for first in range(0, len(tall), rows):
        piece = tall[first : first + rows].astype(np.float64)
        gram += piece.T @ piece
    return np.maximum(np.linalg.eigvalsh(gram)[::-1], 0)


def stable_rank(eigenvalues: np.ndarray) -> float:
    return float(eigenvalues.sum() / eigenvalues[0]) if eigenvalues[0] > 0 else np.nan


def power_law(values: np.ndarray) -> Tail:
    """The tail of positive values; every value but the largest may be λ_min."""
    x = np.sort(values)
    logs = np.log(x)
    sums = np.cumsum(logs[::-1])[::-1]
    best = Tail(np.nan, np.nan, np.nan, 0, np.inf)
    for i in range(len(x) - 1):
        n = len(x) - i
        total = sums[i] - n * logs[i]
        if total <= 0 or (i > 0 and x[i] == x[i - 1]):
            continue
        slope = n / total
        distance = np.abs(1 - np.exp(slope * (logs[i] - logs[i:])) - np.arange(n) / n).max()
        if distance < best.distance:
            best = Tail(1 + slope, slope / np.sqrt(n), float(x[i]), n, float(distance))
    return best


def tail(eigenvalues: np.ndarray) -> Tail | None:
    """Of the eigenvalues that rounding leaves; None where they are fewer than FEWEST."""
    least = eigenvalues[0] * len(eigenvalues) * np.finfo(np.float64).eps
    positive = eigenvalues[eigenvalues > least]
    return power_law(positive) if len(positive) >= FEWEST else None
