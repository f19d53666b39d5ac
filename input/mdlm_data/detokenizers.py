"""Detokenizers: restore the ordinary spelling of a corpus that is distributed as separated words.

Subword tokenizers were trained on running text; on `do n't` or `5 @,@ 000` they would spend tokens that ordinary text
does not need. Published perplexities depend on exactly which separations are undone, and in which order. So each table
below is a protocol: its name is recorded in the data file, and a changed rule needs a new name.

A rule is (pattern, replacement): a plain string, or a compiled regular expression. Rules apply from top to bottom.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import reduce

from mdlm_data.errors import InputError

Rule = tuple[str | re.Pattern[str], str]


def _glue_before(marks: str) -> list[Rule]:
    """`word , word` → `word, word` for each mark."""
    return [(f" {m} ", f"{m} ") for m in marks]


def _tighten(opening: str, closing: str) -> Rule:
    """Remove white space just inside a pair: `( a )` → `(a)`. Both sides may be the same mark, as in quotes."""
    o, c = re.escape(opening), re.escape(closing)
    return re.compile(rf"{o}\s*([^{c}]*?)\s*{c}"), f"{opening}\\1{closing}"


def _tighten_spaced(opening: str, closing: str) -> Rule:
    """As _tighten, but only where both sides have exactly one blank, as word separation puts it."""
    o, c = re.escape(opening), re.escape(closing)
    inside = o if opening == closing else o + c
    return re.compile(rf"{o} ([^{inside}]+) {c}"), f"{opening}\\1{closing}"


WIKITEXT: list[Rule] = [
    ("s '", "s'"),
    *[(f" @{mark}@ ", mark) for mark in "-,."],  # 5 @,@ 000
    *_glue_before(":;.!?,"),
    *[_tighten(*pair) for pair in ("()", "[]", "{}", '""', "''")],
    *[(" ".join("=" * n), "=" * n) for n in (4, 3, 2)],  # heading marks
    (" ° ", "°"),
    (" \n", "\n"),
    ("\n ", "\n"),
    (" N ", " 1 "),
    (" 's", "'s"),
]

PTB: list[Rule] = [
    (" 's", "'s"),
    ("s ' ", "s' "),
    (" n't", "n't"),
    (" \n ", "\n"),
    ("\\/", "/"),
    (re.compile(r" N(?= )"), " 1"),  # the look-ahead leaves the blank for a following N
    ("$ 1", "$1"),
    ("# 1", "#1"),
    ("<unk>", "?"),
]

LM1B: list[Rule] = [
    ("http : / / ", "http://"),
    ("https : / / ", "https://"),
    (re.compile(r" '(\w+)"), r"'\1"),  # contractions: it 's, won 't
    (re.compile(r" (\w+) \. "), r" \1. "),
    (re.compile(r" (\w+) \.$"), r" \1."),
    (" ? ", "? "),
    (re.compile(r" \?$"), "?"),
    (" ! ", "! "),
    (re.compile(r" !$"), "!"),
    *_glue_before(",:;"),
    (" / ", "/"),
    *[_tighten_spaced(*pair) for pair in ('""', "''", "()", "[]")],
    ("$ ", "$"),
    ("£ ", "£"),
]

LAMBADA: list[Rule] = [
    ("\u201c", '"'),
    ("\u201d", '"'),
    (re.compile(r"\A\s*"), "\n"),
    (re.compile(r"(?<=\S)\s+\Z"), ""),
]

TABLES: dict[str, list[Rule]] = {
    "none": [],
    "wikitext": WIKITEXT,
    "ptb": PTB,
    "lm1b": LM1B,
    "lambada": LAMBADA,
    "scientific_papers": [*WIKITEXT, *LM1B],
}


def _apply(text: str, rule: Rule) -> str:
    pattern, replacement = rule
    if isinstance(pattern, str):
        return text.replace(pattern, replacement)
    return pattern.sub(replacement, text)


def detokenizer(names: str) -> Callable[[str], str]:
    """The detokenizer of a name in TABLES, or of several joined by + (`wikitext+lm1b`), applied in that order."""
    rules: list[Rule] = []
    for name in names.split("+"):
        if name not in TABLES:
            raise InputError(f"--detokenizer {names}: no detokenizer {name!r}; known: {', '.join(TABLES)}")
        rules += TABLES[name]
    return lambda text: reduce(_apply, rules, text)
