"""Figures as SVG inside an HTML page: they scale with the page, and axes and text take the page's colours."""

from __future__ import annotations

import io
import re

import matplotlib
from matplotlib.figure import Figure

# what stands for the page's own colours: its text is black in matplotlib, its grid grey
PAGE_COLOURS = {"#000000": "currentColor", "#e6e6e6": "var(--line)", "#737373": "var(--faint)"}
ID = re.compile(r' id="([^"]*)"')


def inline(figure: Figure, label: str, salt: str) -> str:
    """The figure as an <svg> element; label: its name for screen readers; salt: another one for each figure of a page,
    so that their ids differ. Text of the figure is escaped by matplotlib."""
    out = io.StringIO()
    with matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": salt}):
        figure.savefig(out, format="svg", transparent=True, metadata={"Date": None})
    text = out.getvalue()
    text = text[text.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>", "", text, count=1, flags=re.DOTALL)
    text = re.sub(r' (?:width|height)="[0-9.]+pt"', "", text, count=2)
    text = text.replace("<svg", f'<svg role="img" aria-label="{_escape(label)}" fill="currentColor"', 1)
    for colour, of_page in PAGE_COLOURS.items():
        text = text.replace(f": {colour}", f": {of_page}")
    used = set(re.findall(r'(?:url\(|href=")#([^)"]+)', text))
    text = ID.sub(
        lambda m: m[0] if m[1] in used else "", text
    )  # matplotlib's names of parts are the same in all figures
    return re.sub(r"\n\s*", "\n", text)


def _escape(text: str) -> str:
    return text.replace("&", "&amp;").replace('"', "&quot;").replace("<", "&lt;")
