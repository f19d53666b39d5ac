"""Special tokens: their roles, their usual names, the option that names them."""

from __future__ import annotations

from collections.abc import Iterable

from mdlm_data.errors import require

SPECIALS = ("mask", "bos", "eos", "pad")  # also the names of attributes of /vocab
MASK = "[MASK]"  # the token appended to a vocabulary without a mask
END_OF_TEXT = "<|endoftext|>"

# Names a tokenizer.json may use for a special token, best first.
USUAL_NAMES = {
    "mask": (MASK, "<mask>", "<|mask|>", "<|mdm_mask|>"),
    "bos": ("[BOS]", "<s>", "<bos>", "<|begin_of_text|>", "[CLS]", END_OF_TEXT),
    "eos": ("[EOS]", "</s>", "<eos>", "<|end_of_text|>", "[SEP]", END_OF_TEXT),
    "pad": ("[PAD]", "<pad>", "<|padding|>"),
}


def special_tokens(options: Iterable[str]) -> dict[str, str]:
    """Role to token, from each --special ROLE=TOKEN."""
    tokens = {}
    for option in options:
        role, equals, token = option.partition("=")
        require(equals and token and role in SPECIALS, f"--special {option}: give mask=, bos=, eos= or pad=TOKEN")
        tokens[role] = token
    return tokens
