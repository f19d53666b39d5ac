"""Progress of a pass over a corpus, on standard error."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator

from mdlm_data.corpus import Corpus
from mdlm_data.documents import Piece


class Progress:
    """Fraction done, rate and time left: a line that is rewritten on a terminal, else a new line every 30 s."""

    def __init__(self, label: str, corpus: Corpus, quiet: bool) -> None:
        self.label, self.corpus, self.quiet = label, corpus, quiet
        self.terminal = sys.stderr.isatty()
        self.start = self.shown = time.monotonic()
        self.documents = 0

    def watch(self, pieces: Iterator[Piece]) -> Iterator[Piece]:
        for piece in pieces:
            self.documents += piece[1]
            if time.monotonic() - self.shown > (0.2 if self.terminal else 30):
                self._show()
            yield piece

    def end(self) -> None:
        if self.terminal and not self.quiet:
            sys.stderr.write("\r\033[K")

    def _show(self) -> None:
        self.shown = time.monotonic()
        if self.quiet:
            return
        done, size = self.corpus.position()
        rate = max(done, 1) / (self.shown - self.start)
        line = f"{self.label}: {self.documents:,} documents"
        if done:
            line += f"  {rate / 1e6:.1f} MB/s"
        if size:
            left = (size - done) / rate
            line += f"  {done / size:4.0%}  {int(left) // 60}:{int(left) % 60:02} left"
        sys.stderr.write(f"\r{line}\033[K" if self.terminal else line + "\n")
        sys.stderr.flush()
