"""mdlm-analysis samples: perplexities and entropies are those of the files; distinct-n and self-BLEU by hand."""

from __future__ import annotations

import csv
import math
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from conftest import Call
from h5_files import make_checkpoint, make_samples, make_score

from mdlm_analysis import cli, diversity, samples

TEXTS = ["the cat sat on the mat", "the cat sat on the mat", "a dog ran"]
ENTROPY = [1.5, 1.5, 1.1]


def split(*texts: str) -> list[list[str]]:
    return [text.split() for text in texts]


def test_distinct_by_hand() -> None:
    texts = split(*TEXTS)
    assert diversity.distinct(texts, 1) == 8 / 15  # the cat sat on mat a dog ran; 6 + 6 + 3 words
    assert diversity.distinct(texts, 2) == 7 / 12  # 5 of the first, 2 of the last; 5 + 5 + 2
    assert math.isnan(diversity.distinct(split("a", "b"), 2))
    assert diversity.duplicates([[1, 2], [1, 2], [2, 1], [1, 2]]) == 2


def test_self_bleu_by_hand() -> None:
    assert diversity.self_bleu(split("a b c d e", "a b c d e")) == pytest.approx(100)
    assert diversity.self_bleu(split("a b c d", "e f g h")) == 0
    # a b c d e with a b c d f, both ways: 4/5, 3/4, 2/3, 1/2 of the n-grams
    assert diversity.self_bleu(split("a b c d e", "a b c d f")) == pytest.approx(
        100 * (4 / 5 * 3 / 4 * 2 / 3 * 1 / 2) ** 0.25
    )
    # "a a a" with "a b a": 2/3 of its words, half a match among 2 pairs, a quarter of one among 1 triple; and the other way
    assert diversity.self_bleu(split("a a a", "a b a")) == pytest.approx(100 * (2 / 3 * 1 / 4 * 1 / 4) ** (1 / 3))
    # a short text: exp(1 − 4/2) for its length
    short = math.exp(1 - 4 / 2)
    long = (2 / 4 * 1 / 3 * 1 / 4 * 1 / 4) ** 0.25
    assert diversity.self_bleu(split("a b", "a b c d")) == pytest.approx(100 * (short + long) / 2)


def direct(texts: list[list[str]]) -> float:
    """Self-BLEU straight from its definition."""
    scores = []
    for i, words in enumerate(texts):
        others = texts[:i] + texts[i + 1 :]
        logs, halves, matched = [], 1.0, 0
        for n in range(1, min(4, len(words)) + 1):
            mine, *refs = (Counter(zip(*(w[k:] for k in range(n)))) for w in (words, *others))
            found = sum(min(count, max(r[g] for r in refs)) for g, count in mine.items())
            matched += found
            halves *= 1 if found else 0.5
            logs.append(math.log((found or halves) / mine.total()))
        nearest = min((abs(len(o) - len(words)), len(o)) for o in others)[1]
        scores.append(math.exp(sum(logs) / len(logs) + min(0, 1 - nearest / len(words))) if matched else 0)
    return 100 * sum(scores) / len(scores)


def test_self_bleu_is_its_definition() -> None:
    random = np.random.default_rng(1)
    for _ in range(20):
        texts = [["abcdef"[k] for k in random.integers(0, 6, random.integers(1, 12))] for _ in range(9)]
        assert diversity.self_bleu(texts) == pytest.approx(direct(texts), rel=1e-12)


def test_table(tmp_path: Path, analysis: Call) -> None:
    a = make_samples(tmp_path / "a.h5", TEXTS, ENTROPY)
    b = make_samples(tmp_path / "b.h5", TEXTS, [1.0, 2.0, 3.0], steps=16, tokens_per_evaluation=1.5)
    score = make_score(tmp_path / "s.h5", [9, 8, 4], [5, 5, 2], [1.0, 2.0, 3.0], "b.h5")
    out = tmp_path / "x.svg"
    first, second = csv.DictReader(analysis("samples", score, a, b, "--format", "csv", "-o", out).splitlines())
    assert first["evaluations"] == second["evaluations"] == "24"
    assert first["tokens an evaluation"] == "" and second["tokens an evaluation"] == "1.5"
    assert first["gen. ppl"] == "" and float(second["gen. ppl"]) == pytest.approx(np.exp(21 / 12))
    assert float(second["ppl low"]) == pytest.approx(np.exp(21 / 12 - 0.1))
    assert float(second["entropy [nat]"]) == 2 and float(second["entropy low [nat]"]) == pytest.approx(
        2 - 1.96 / np.sqrt(3)
    )
    for row in (first, second):
        assert float(row["distinct-1"]) == 8 / 15 and row["duplicates"] == "1" and row["number"] == "3"
        assert float(row["self-BLEU [%]"]) == pytest.approx(direct(split(*TEXTS)))
    assert out.with_suffix(".csv").is_file()
    assert "s.h5: is a score of other samples (b.h5)" in analysis("samples", a, score)
    assert "of 2 samples" in analysis("samples", a, "--count", 2)


def test_equal_entropies_are_told_apart_by_name(tmp_path: Path) -> None:
    files = [make_samples(tmp_path / f"{x}.h5", TEXTS, ENTROPY, steps=s) for x, s in (("a", 4), ("b", 8))]
    score = make_score(tmp_path / "s.h5", [9, 8, 4], [5, 5, 2], ENTROPY, "runs/b.h5")
    groups, _ = samples.read_groups([*files, score], 0)
    assert [g.score is None for g in groups] == [True, False]


def test_figure(tmp_path: Path) -> None:
    files = []
    for k, (steps, temperature) in enumerate(((4, 1.0), (8, 1.0), (16, 1.0), (16, 0.7))):
        entropy = [1.0 + k, 2.0, 3.5]
        files.append(make_samples(tmp_path / f"{k}.h5", TEXTS, entropy, steps=steps, temperature=temperature))
        files.append(make_score(tmp_path / f"s{k}.h5", [9 - k, 8, 4], [5, 5, 2], entropy, f"{k}.h5"))
    line = ["samples", *map(str, files)]
    axes = samples.run(cli.parser(cli.load(line)).parse_args(line)).draw("page").axes
    panels = {(ax.get_xlabel(), ax.get_ylabel()): ax for ax in axes}
    assert len(panels) == 5
    frontier = panels["entropy of tokens [nat]", "generative perplexity"].containers
    assert [list(c.lines[0].get_xdata()) for c in frontier] == [
        pytest.approx([(6.5 + k) / 3 for k in ks]) for ks in ((0, 1, 2), (3, 2))
    ]
    assert list(frontier[0].lines[0].get_ydata()) == pytest.approx([np.exp((21 - k) / 12) for k in range(3)])
    (steps,) = panels["steps", "self-BLEU [%]"].containers
    assert list(steps.lines[0].get_xdata()) == [4, 8, 16]
    (warm,) = panels["temperature", "entropy of tokens [nat]"].containers
    assert list(warm.lines[0].get_xdata()) == [0.7, 1.0]


def test_chains_follow_the_deck(tmp_path: Path) -> None:
    """Files that differ in one option make a chain; an option that only the deck has tells others apart."""

    def group(name: str, **keys: object) -> samples.Group:
        text = "".join(f"  {k} = {v};\n" for k, v in keys.items())
        deck = f'sample:\n{{\n  steps = 8;\n  output = "{name}";\n{text}}};\n'
        make_samples(tmp_path / name, TEXTS, ENTROPY, deck=deck)
        (found,), _ = samples.read_groups([tmp_path / name], 0)
        return found

    threshold = {"commit": '"threshold"'}
    a, b = (group(f"{x}.h5", **threshold, threshold=x) for x in (0.9, 0.5))
    c, d = (group(f"g{x}.h5", commit='"top_k"', guidance=x) for x in (1.0, 3.0))
    alone = group("alone.h5", commit='"top_k"', guidance=2.0, order='"random"')
    assert samples.chains([a, b, c, d, alone]) == [("guidance", [c, d]), ("threshold", [b, a]), ("", [alone])]


def test_refusals(tmp_path: Path, analysis: Call) -> None:
    a = make_samples(tmp_path / "a.h5", TEXTS, ENTROPY)
    score = make_score(tmp_path / "s.h5", [9, 8, 4], [5, 5, 2], ENTROPY, "a.h5")
    assert "is a score; name the samples, too" in analysis("samples", score, fails=True)
    other = make_checkpoint(tmp_path / "c.h5")
    assert "has the format mdlm-checkpoint, not mdlm-samples or mdlm-score" in analysis("samples", a, other, fails=True)
    assert "no such file" in analysis("samples", tmp_path / "none", fails=True)
    assert "--count 9: a file has 3 samples only" in analysis("samples", a, "--count", 9, fails=True)
