"""mdlm-analysis COMMAND: tables and figures of what mdlm wrote; the command line.

A command is a module named in COMMANDS, with HELP, EXAMPLE, add_arguments(parser) and run(options), which returns a Result.
Those in WRITERS have output options of their own; their run returns the names of the files that it wrote.
"""

from __future__ import annotations

import argparse
import sys
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any

from mdlm_analysis.result import Result
from mdlm_analysis.table import FORMS
from mdlm_data.command import Parser, check_paths, run
from mdlm_data.errors import InputError
from mdlm_data.output import replacing

PROGRAM = "mdlm-analysis"
COMMANDS = ("metrics", "compare", "weights", "line", "sweep", "samples", "profile")
STATUS = "Exit status: 0; 2 after an error; 130 when interrupted."
WRITERS = ("report", "export")


def main(argv: list[str] | None = None) -> int:
    status = 0

    def job(argv: list[str]) -> None:
        nonlocal status
        status = analyse(argv)

    return run(PROGRAM, job, argv) or status


def analyse(argv: list[str]) -> int:
    """Run a command; its exit code."""
    modules = load(argv)
    o = parser(modules).parse_args(argv)
    result = call(modules[o.command], o)
    if o.command in WRITERS:
        print(*result, sep="\n")
        return 0
    print(result.table.form(o.format), end="")
    for note in result.notes if o.format == "text" else ():
        print(note)
    if o.out:
        for path in write(result, o.out, o.width):
            print(f"{PROGRAM}: wrote {path}", file=sys.stderr)
    return result.status


def load(argv: list[str]) -> dict[str, ModuleType]:
    """The module of the command that is asked for, else all, for --help."""
    known = COMMANDS + WRITERS
    names = argv[:1] if argv and argv[0] in known else known
    return {name: import_module(f"mdlm_analysis.{name}") for name in names}


def call(module: ModuleType, o: argparse.Namespace) -> Any:
    """The result of a command; a file that is missing, damaged or of another format is an InputError."""
    from mdlm_h5 import FormatError

    if module.__name__.rpartition(".")[2] not in WRITERS and o.out:
        from mdlm_analysis.figure import check

        check_paths([str(check(o.out)), str(numbers_path(o.out))], [])
    try:
        return module.run(o)
    except FormatError as e:
        raise InputError(str(e)) from e


def write(result: Result, out: Path, width: str) -> list[Path]:
    """The figure and, beside it, its numbers; returns their names."""
    from mdlm_analysis.figure import save

    save(result.draw(width), out)
    numbers = numbers_path(out)
    with replacing(numbers) as partial:
        Path(partial).write_text((result.numbers or result.table).csv(), "utf-8")
    return [out, numbers]


def numbers_path(out: Path) -> Path:
    return out.with_suffix(".csv")


def parser(modules: dict[str, ModuleType]) -> Parser:
    p = Parser(prog=PROGRAM, description="Tables and figures of what mdlm wrote.", epilog=STATUS)
    commands = p.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for name, module in modules.items():
        status = getattr(module, "STATUS", STATUS)
        epilog = f"example: {PROGRAM} {module.EXAMPLE}\n\n{status}"
        c = commands.add_parser(name, help=module.HELP, description=module.__doc__, epilog=epilog)
        c.set_defaults(program=PROGRAM)
        module.add_arguments(c)
        if name not in WRITERS:
            add_outputs(c)
    return p


def add_outputs(p: argparse.ArgumentParser) -> None:
    """The options that all commands have."""
    g = p.add_argument_group("output")
    g.add_argument(
        "-o",
        "--out",
        type=Path,
        metavar="FIGURE",
        help=".png, .pdf or .svg; its numbers are written beside it, as .csv",
    )
    g.add_argument(
        "--width", choices=("column", "page"), default="page", help="of the figure: 85 mm or 175 mm (default: page)"
    )
    g.add_argument("--format", choices=FORMS, default="text", help="of the printed table (default: text)")


if __name__ == "__main__":
    sys.exit(main())
