"""What a command returns; cli.py prints and writes it, so that all commands have the same outputs and options."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from mdlm_analysis.table import Table

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@dataclass(frozen=True)
class Result:
    table: Table  # printed
    draw: Callable[[str], Figure]  # of "column" or "page"
    numbers: Table | None = None  # what the figure shows, for the CSV; None: the table
    notes: tuple[str, ...] = ()  # lines below the table
    status: int = 0  # exit code
