"""How diverse texts are, by their words (what white space separates): distinct-n, self-BLEU, duplicates.

distinct-n  different n-grams over all n-grams of the texts (Li et al., arXiv:1510.03055)
self-BLEU   mean over texts of BLEU-4 with all other texts as references (Zhu et al., arXiv:1802.01886). BLEU of a text: the
            geometric mean of the shares of its n-grams, n = 1 … 4, that a reference has, each counted at most as often as in
            the reference that has it most often, times exp(1 − r/c) where its length c is below that of the nearest
            reference r. Orders longer than the text are left out, and the k-th order without a match counts as 1/2^k
            matches: the defaults of sacrebleu's sentence_bleu, without a tokenizer. Here the time is linear in the texts."""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from collections.abc import Sequence

import numpy as np

ORDERS = 4
Words = Sequence[str]


def grams(words: Words, n: int) -> Counter[tuple[str, ...]]:
    return Counter(tuple(words[i : i + n]) for i in range(len(words) - n + 1))


def distinct(texts: Sequence[Words], n: int) -> float:
    found: Counter[tuple[str, ...]] = Counter()
    for words in texts:
        found += grams(words, n)
    total = found.total()
    return len(found) / total if total else np.nan


def duplicates(rows: Sequence) -> int:
    """Rows that repeat an earlier one."""
    return len(rows) - len(set(map(tuple, rows)))


def self_bleu(texts: Sequence[Words]) -> float:
    """In percent."""
    if len(texts) < 2:
        return np.nan
    counts = [[grams(words, n) for words in texts] for n in range(1, ORDERS + 1)]
    others = [_highest(of_order) for of_order in counts]
    lengths = sorted(map(len, texts))
    scores = []
    for i, words in enumerate(texts):
        matches = [
            sum(min(count, _of_others(top[gram], i)) for gram, count in of_order[i].items())
            for of_order, top in zip(counts, others)
        ]
        scores.append(_bleu(matches, len(words), _nearest(lengths, len(words))))
    return 100 * float(np.mean(scores))


def _highest(counts: list[Counter]) -> dict:
    """Of each n-gram the highest count, whose it is, and the next highest."""
    top: dict = {}
    for i, of_text in enumerate(counts):
        for gram, count in of_text.items():
            first, owner, second = top.get(gram, (0, -1, 0))
            top[gram] = (count, i, first) if count > first else (first, owner, max(second, count))
    return top


def _of_others(top: tuple[int, int, int], i: int) -> int:
    """The highest count among the texts but i."""
    first, owner, second = top
    return second if owner == i else first


def _nearest(lengths: list[int], length: int) -> int:
    """Among sorted lengths, one of which is this text's own, the nearest of the others; of two the shorter."""
    at = bisect_left(lengths, length)
    others = lengths[max(at - 1, 0) : at] + lengths[at + 1 : at + 2]
    return min(others, key=lambda other: (abs(other - length), other))


def _bleu(matches: list[int], length: int, reference: int) -> float:
    if not any(matches):
        return 0.0
    logs, halves = [], 1
    for n, found in enumerate(matches, 1):
        total = length - n + 1
        if total <= 0:
            break
        halves *= 1 if found else 2
        logs.append(np.log((found or 1 / halves) / total))
    return float(np.exp(np.mean(logs) + min(0.0, 1 - reference / length)))
