"""Tables as text, CSV, Markdown and LaTeX: one list of columns for all forms."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

FORMS = ("text", "csv", "markdown", "latex")
NONE = "-"
LATEX = str.maketrans(
    {c: rf"\{c}" for c in "_%&#${}"}
    | {"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\^{}", "|": r"\textbar{}", "…": r"\dots{}"}
    | {"<": r"\textless{}", ">": r"\textgreater{}", "−": "$-$", "Δ": r"$\Delta$", "‖": r"$\|$", "₂": "$_2$"}
)


@dataclass(frozen=True)
class Column:
    name: str
    unit: str = ""
    form: str = ""  # of str.format, for printing; a CSV has all digits

    @property
    def title(self) -> str:
        return f"{self.name} [{self.unit}]" if self.unit else self.name


class Table:
    """Cells are str, bool, int or float; None and NaN are printed as a dash and are empty in a CSV."""

    def __init__(self, columns: Sequence[Column], rows: Sequence[Sequence[Any]] = ()) -> None:
        self.columns, self.rows = list(columns), [list(row) for row in rows]

    def add(self, *cells: Any) -> None:
        assert len(cells) == len(self.columns)
        self.rows.append(list(cells))

    def form(self, name: str) -> str:
        """As one of FORMS, with a newline at the end."""
        return {"text": self.text, "csv": self.csv, "markdown": self.markdown, "latex": self.latex}[name]()

    def text(self) -> str:
        titles, cells = [c.title for c in self.columns], self._printed()
        widths = [max(len(row[k]) for row in [titles, *cells]) for k in range(len(titles))]
        left = self._left()
        lines = [
            "  ".join(x.ljust(w) if at else x.rjust(w) for x, w, at in zip(row, widths, left)).rstrip()
            for row in [titles, *cells]
        ]
        return "\n".join(lines) + "\n"

    def csv(self) -> str:
        out = io.StringIO()
        writer = csv.writer(out, lineterminator="\n")
        writer.writerow(c.title for c in self.columns)
        writer.writerows([None if _none(x) else repr(float(x)) if _real(x) else x for x in row] for row in self.rows)
        return out.getvalue()

    def markdown(self) -> str:
        rule = ["---" if left else "---:" for left in self._left()]
        rows = [[c.title for c in self.columns], rule, *self._printed()]
        return "".join("| " + " | ".join(x.replace("|", r"\|") for x in row) + " |\n" for row in rows)

    def latex(self) -> str:
        """A tabular with the rules of the package booktabs."""
        minus = [
            [x.replace("-", "−", x != NONE and not left) for x, left in zip(row, self._left())]
            for row in self._printed()
        ]
        rows = [[c.title for c in self.columns], *minus]
        head, *body = (" & ".join(x.translate(LATEX) for x in row) + r" \\" for row in rows)
        places = "".join("l" if left else "r" for left in self._left())
        lines = [
            rf"\begin{{tabular}}{{{places}}}",
            r"\toprule",
            head,
            r"\midrule",
            *body,
            r"\bottomrule",
            r"\end{tabular}",
        ]
        return "\n".join(lines) + "\n"

    def _printed(self) -> list[list[str]]:
        return [[NONE if _none(x) else _print(x, c.form) for x, c in zip(row, self.columns)] for row in self.rows]

    def _left(self) -> list[bool]:
        """Which columns hold text."""
        return [any(isinstance(row[k], str | bool) for row in self.rows) for k in range(len(self.columns))]


def _real(x: Any) -> bool:
    return isinstance(x, float) or getattr(getattr(x, "dtype", None), "kind", "") == "f"


def _none(x: Any) -> bool:
    return x is None or (_real(x) and math.isnan(x))


def _print(x: Any, form: str) -> str:
    if isinstance(x, bool):
        return "yes" if x else "no"
    return format(x, form) if form and not isinstance(x, str) else str(x)
