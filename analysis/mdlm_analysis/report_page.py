"""The parts of a report's page: sections of blocks, each a table, figures, texts or lines; and the page from its template."""

from __future__ import annotations

import base64
import hashlib
import math
import re
from collections.abc import Callable, Collection, Sized
from dataclasses import dataclass, field
from importlib.resources import files
from typing import TYPE_CHECKING, Any

from mdlm_analysis.svg import inline
from mdlm_analysis.table import Table

if TYPE_CHECKING:
    from matplotlib.axes import Axes

NONE = "–"
SHORT = 34  # letters of a text that is not broken into lines
HIDDEN = re.compile(
    r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ufeff]"
)  # control characters, text direction


@dataclass(frozen=True)
class Cell:
    text: str
    kind: str  # CSS class: number, short or words
    value: float | int | None = None  # by which the column is sorted; None: by the text


@dataclass(frozen=True)
class Row:
    cells: list[Cell]
    marked: bool


@dataclass(frozen=True)
class PageTable:
    caption: str
    heads: list[tuple[str, bool]]  # title, whether numbers
    rows: list[Row]


@dataclass(frozen=True)
class PageFigure:
    svg: str
    caption: str


@dataclass(frozen=True)
class Text:
    label: str
    text: str


@dataclass
class Block:
    title: str = ""
    folded: bool = False  # opened by a click, and for printing
    lines: list[str] = field(default_factory=list)
    figures: list[PageFigure] = field(default_factory=list)
    table: PageTable | None = None
    items: list[Text] = field(default_factory=list)


@dataclass
class Section:
    title: str
    blocks: list[Block]

    @property
    def anchor(self) -> str:
        return self.title.lower().replace(" ", "-")


@dataclass(frozen=True)
class Card:
    name: str
    value: str
    note: str = ""


def page_table(table: Table, caption: str, marked: Collection[int] = ()) -> PageTable:
    """marked: the numbers of rows to highlight."""
    left = [any(isinstance(row[k], str | bool) for row in table.rows) for k in range(len(table.columns))]
    heads = [(c.title, not text) for c, text in zip(table.columns, left)]
    forms = [c.form for c in table.columns]
    rows = [
        Row([_cell(x, form, text) for x, form, text in zip(row, forms, left)], n in marked)
        for n, row in enumerate(table.rows)
    ]
    return PageTable(caption, heads, rows)


def runs_table(runs: Sized, table: Table, caption: str) -> PageTable:
    """A table whose first column names the run, which is left out where there is only one."""
    first = 0 if len(runs) > 1 else 1
    return page_table(Table(table.columns[first:], [row[first:] for row in table.rows]), caption)


def page_figure(name: str, caption: str, draw: Callable[[Axes], None], height: float = 2.3) -> PageFigure:
    """A figure of one panel; name: unique on the page."""
    from mdlm_analysis import figure

    drawing, axes = figure.panels(1, "column", height=height)
    draw(axes[0])
    figure.legend(drawing, axes)
    return PageFigure(inline(drawing, name, name), caption)


def _cell(x: Any, form: str, text: bool) -> Cell:
    kind = "words" if text else "number"
    if x is None or (isinstance(x, float) and math.isnan(x)) or x == "":
        return Cell(NONE, kind)
    if isinstance(x, bool):
        return Cell("yes" if x else "no", kind)
    if isinstance(x, str):
        return Cell(visible(x), "short" if len(x) <= SHORT else kind)
    value = x.item() if hasattr(x, "item") else x
    return Cell(format(value, form) if form else plain(value), kind, value if math.isfinite(value) else None)


def plain(value: float | int) -> str:
    """A number for reading: all digits of an integer, six of others."""
    return f"{value:,}" if isinstance(value, int) else f"{value:.6g}"


def visible(text: str) -> str:
    """Control characters and those that turn the direction of text, replaced: they are not allowed in HTML or mislead."""
    return HIDDEN.sub("\ufffd", text)


def duration(seconds: float) -> str:
    if not math.isfinite(seconds):
        return NONE
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours:,} h {minutes:02d} min"
    return f"{minutes} min {rest:02d} s" if minutes else f"{seconds:.3g} s"


def html(title: str, subtitle: str, cards: list[Card], sections: list[Section], footer: str) -> str:
    """The page. It runs one script, known by its hash, and may fetch nothing, whatever the texts in it say."""
    from jinja2 import Environment, StrictUndefined

    here = files("mdlm_analysis")
    style, script, template = ((here / f"report.{end}").read_text("utf-8") for end in ("css", "js", "html"))
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    return environment.from_string(template).render(
        title=visible(title),
        subtitle=visible(subtitle),
        cards=cards,
        sections=sections,
        footer=footer,
        style=style,
        script=script,
        script_hash=digest,
    )
