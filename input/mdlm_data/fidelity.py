"""Whether text survives its tokenizer: ids are spelt again as `mdlm sample` does and compared with the text."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from tokenizers import Tokenizer

from mdlm_data.errors import InputError
from mdlm_data.spelling import Spelling
from mdlm_data.token_bytes import blank_markers
from mdlm_data.vocabulary import Ids, Vocabulary

PROBES = 200  # tokens of a vocabulary from which its own text is made


@dataclass
class Loss:
    """What tokenizing changed, in sums over texts."""

    characters: int = 0  # of the text, white space not counted
    lost: int = 0  # of them; upper case, accents and the like that the tokenizer's normalizer changes are not lost
    tokens: int = 0
    unknown: int = 0  # tokens for what the vocabulary cannot spell
    changed: int = 0  # texts that come back in other case or white space, or normalized in another way

    def __iadd__(self, other: Loss) -> Loss:
        for name, value in vars(other).items():
            setattr(self, name, getattr(self, name) + value)
        return self

    @property
    def share(self) -> float:
        return max(self.lost / max(self.characters, 1), self.unknown / max(self.tokens, 1))


class Fidelity:
    """Compares texts with their ids. Can be sent to another process."""

    def __init__(self, v: Vocabulary) -> None:
        self.v = v
        self.spelling = Spelling("", v.kind, v.hash, v.tokens, v.mask, v.bos, v.eos, v.pad)
        definition = json.loads(v.definition) if v.definition else None
        self.markers = blank_markers(definition) if definition else []
        self.normalizer = Tokenizer.from_str(v.definition).normalizer if definition else None

    def __getstate__(self) -> Vocabulary:
        return self.v

    def __setstate__(self, v: Vocabulary) -> None:
        self.__init__(v)

    def compare(self, texts: Iterable[str], encoded: Iterable[Ids]) -> Loss:
        loss = Loss()
        for text, ids in zip(texts, encoded):
            loss.tokens += len(ids)
            if self.v.unknown is not None:
                loss.unknown += int(np.count_nonzero(np.asarray(ids) == self.v.unknown))
            lost, changed, size = self._chars(text, ids) if self.v.kind == "chars" else self._joined(text, ids)
            loss.lost += lost
            loss.changed += changed
            loss.characters += size
        return loss

    def _chars(self, text: str, ids: Ids) -> tuple[int, bool, int]:
        """A character is one token, so that the unknown ones are those that are lost."""
        lost = int(np.count_nonzero(np.asarray(ids) == self.v.unknown)) if self.v.unknown is not None else 0
        return lost, self.v.folds_case and not text.islower() and text != text.lower(), len(text)

    def _joined(self, text: str, ids: Ids) -> tuple[int, bool, int]:
        back = self.spelling.text(np.asarray(ids).tolist())
        if back == text or back == " " + text:  # many tokenizers put a blank before a text
            return 0, False, len(text)
        want, got = _squashed(text), _squashed(back)
        if want == got:
            return 0, True, len(text)
        if self.normalizer:
            text = self.normalizer.normalize_str(text)
            for marker in self.markers:
                text = text.replace(marker, " ")
            want = _squashed(text)
        missing = Counter(want) - Counter(got)
        return max(sum(missing.values()), int(want != got)), True, max(len(want), 1)


def check_own_text(v: Vocabulary, spec: str) -> None:
    """Refuse a vocabulary whose own tokens, written as text, do not come back."""
    texts = [t.decode("utf-8", "ignore").removeprefix("##").strip() for t in v.tokens[:: max(1, len(v.tokens) // 4000)]]
    words = [t for t in texts if t.isalpha() and t.isascii()][: 4 * PROBES : 4]
    if len(words) < 2:
        return
    text = " ".join(words)
    ids = v.encode([text])[0]
    fidelity = Fidelity(v)
    loss = fidelity.compare([text], [ids])
    back = fidelity.spelling.text(np.asarray(ids).tolist())
    if loss.lost > 0.01 * loss.characters and not loss.unknown:
        raise InputError(f"--tokenizer {spec}: its own tokens do not come back as text: {text[:40]!r} as {back[:40]!r}")
    if not loss.unknown and not loss.lost and len(back.split()) < len(words) // 2:
        raise InputError(f"--tokenizer {spec}: blanks between words do not come back: {text[:40]!r} as {back[:40]!r}")


def _squashed(text: str) -> str:
    return "".join(text.split())
