"""Detokenizers: each rule on a sentence, and the order of rules."""

from __future__ import annotations

import pytest

from mdlm_data.detokenizers import detokenizer
from mdlm_data.errors import InputError

WIKITEXT = [
    ("the ship 's crew , 1 @,@ 200 men , left .", "the ship's crew, 1,200 men, left ."),
    ("left . They came ; all : well ! Or ? no", "left. They came; all: well! Or? no"),
    ("a two @-@ masted ship of 3 @.@ 5 tons", "a two-masted ship of 3.5 tons"),
    ("the crews ' boats", "the crews' boats"),
    ("( now [ almost ] { all } )", "(now [almost] {all})"),
    ('she said " no more " and left', 'she said "no more" and left'),
    (" = = Voyage = = \n", " == Voyage ==\n"),
    ("45 ° north", "45°north"),
    ("about N men", "about 1 men"),
    ("", ""),
]

PTB = [
    ("the firm 's profit did n't fall", "the firm's profit didn't fall"),
    ("the firms ' profit", "the firms' profit"),
    ("N N N men and N", "N 1 1 men and N"),
    ("it paid $ N billion for # N", "it paid $1 billion for # N"),
    ("rated aa\\/a by <unk>", "rated aa/a by ?"),
]

LM1B = [
    ("It 's late , he said ; we won 't wait : go !", "It's late, he said; we won't wait: go!"),
    ("Who is it ? He left . So did I .", "Who is it? He left. So did I."),
    ("see http : / / example.org for either / or", "see http://example.org for either/or"),
    ('he said " not now " and ( then ) [ soon ]', 'he said "not now" and (then) [soon]'),
    ("it cost $ 5 or £ 4 , they say", "it cost $5 or £4, they say"),
]

LAMBADA = [("  \u201cWhere to?\u201d he asked.\n ", '\n"Where to?" he asked.'), ("go", "\ngo")]


@pytest.mark.parametrize(
    ("name", "given", "wanted"),
    [
        *[("wikitext", *pair) for pair in WIKITEXT],
        *[("ptb", *pair) for pair in PTB],
        *[("lm1b", *pair) for pair in LM1B],
        *[("lambada", *pair) for pair in LAMBADA],
    ],
)
def test_detokenizer(name: str, given: str, wanted: str) -> None:
    assert detokenizer(name)(given) == wanted


def test_none_changes_nothing_and_names_join_in_order() -> None:
    text = "a @-@ b , $ 5 (  c ) \n"
    assert detokenizer("none")(text) == text
    both = detokenizer("wikitext+lm1b")
    assert both(text) == detokenizer("lm1b")(detokenizer("wikitext")(text)) == "a-b, $5 (c)\n"


def test_unknown_name() -> None:
    with pytest.raises(InputError, match="no detokenizer 'ptb2'"):
        detokenizer("wikitext+ptb2")
