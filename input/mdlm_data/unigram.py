"""Unigram models of token counts."""

from __future__ import annotations

import math

import numpy as np


def entropy(counts: np.ndarray) -> float:
    """Nat per token of the best unigram model of these counts: −Σ p log p."""
    p = counts[counts > 0] / counts.sum()
    return float(-(p * np.log(p)).sum())


def cross_perplexity(counts: np.ndarray, model: np.ndarray) -> float:
    """Perplexity of tokens with these counts under the unigram model (n + 1) / (N + V) of the counts `model`."""
    log_p = np.log(model + 1.0) - math.log(model.sum() + len(model))
    return math.exp(-float((counts * log_p).sum() / counts.sum()))
