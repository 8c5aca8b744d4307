"""The command line: `pygrad demo`, `draw FORMULA NAME=NUMBER ...`, `play`, `migrate PATH ...`."""

from __future__ import annotations

import argparse
import keyword
import math
import re
import subprocess
import sys
import unicodedata
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

import pygrad
from pygrad._cli.demo import play, run, table
from pygrad._cli.migrate import examine, sources
from pygrad._core.files import write
from pygrad._views.draw import draw_dot
from pygrad.engine import Value
from pygrad.formula import FormulaError, parse

# By suffix; dot: as text, html: a page.
FORMATS = {"svg": "svg", "png": "png", "pdf": "pdf", "dot": "dot", "gv": "dot", "html": "html"}
SHOWN_AROUND = 60  # characters of a formula on either side of the error


class UsageError(Exception):
    """A usage error, described in one line."""


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise UsageError(f"{message} (see {self.prog} --help)")


def _steps(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of steps: 1, 2, 3, ...")
    return int(text)


def _seed(text: str) -> int:
    if not text.isdecimal() or int(text) >= 2**32:
        raise argparse.ArgumentTypeError(f"{text!r} is not a seed: an integer from 0 to 2**32 - 1")
    return int(text)


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(prog="pygrad", description="Reverse-mode automatic differentiation of scalar Python code.")
    parser.add_argument("--version", action="version", version=f"pygrad {pygrad.__version__}")
    commands = parser.add_subparsers(dest="command", metavar="{demo,draw,play,migrate}", required=True)
    demo = commands.add_parser(
        "demo",
        help="differentiate and draw a neuron, then train a small network",
        description="Differentiate a neuron and draw its graph; then train micrograd's demo network on two moons.",
    )
    demo.add_argument("--steps", type=_steps, default=100, help="steps of training (default: %(default)s)")
    demo.add_argument(
        "--seed", type=_seed, default=1337, help="seed of the points and the weights (default: %(default)s)"
    )
    demo.add_argument(
        "--out", type=Path, default=Path("pygrad-demo"), help="the folder to write to (default: %(default)s)"
    )
    draw = commands.add_parser(
        "draw",
        help="print a formula's value and gradient, and draw its graph",
        description="Print a formula's value and its gradient, and draw its graph.",
        epilog="example: pygrad draw 'tanh(x*w + b)' x=2 w=-3 b=6.88 -o graph.svg",
    )
    draw.add_argument("formula", help="numbers, names, + - * / %% **, parentheses, functions such as exp and tanh")
    draw.add_argument(
        "variables", nargs="*", default=[], metavar="NAME=NUMBER", help="a value for each name; pi and e need none"
    )
    draw.add_argument("-o", "--output", type=Path, metavar="FILE", help="the picture's file (default: graph.svg)")
    draw.add_argument(
        "--format",
        choices=FORMATS,
        help="format of the picture (default: the file's suffix); dot and gv need no renderer, pdf needs Graphviz",
    )
    play_ = commands.add_parser(
        "play",
        help="write a page that trains the demo's network in a browser",
        description="Write one HTML page that trains the demo's network on two moons, in the browser.",
    )
    play_.add_argument("--steps", type=_steps, default=100, help="steps of training (default: %(default)s)")
    play_.add_argument(
        "--seed", type=_seed, default=1337, help="seed of the points and the weights (default: %(default)s)"
    )
    play_.add_argument(
        "-o",
        "--output",
        type=Path,
        default=Path("playground.html"),
        metavar="FILE",
        help="the page's file (default: %(default)s)",
    )
    migrate = commands.add_parser(
        "migrate",
        help="change micrograd's imports to pygrad's in programs and notebooks",
        description="Show how the imports of micrograd change in .py and .ipynb files, as a diff, and list code "
        "that behaves differently with pygrad. The exit status is 1 if a file would change, or could not be read.",
    )
    migrate.add_argument("paths", nargs="+", type=Path, metavar="PATH", help="a file, or a folder to look through")
    migrate.add_argument("--write", action="store_true", help="change the files")
    return parser


def _shield(argv: Sequence[str]) -> list[str]:
    """Prefix formulas such as -x with a blank, so that argparse does not read them as options."""
    if not argv or argv[0] != "draw":
        return list(argv)
    return [f" {arg}" if arg[:1] == "-" and arg[1:2] != "-" and arg not in ("-", "-o", "-h") else arg for arg in argv]


def _variables(assignments: Sequence[str]) -> dict[str, Value]:
    variables: dict[str, Value] = {}
    for assignment in assignments:
        name, equals, number = assignment.strip().partition("=")
        name = unicodedata.normalize("NFKC", name)  # as Python's parser does with names
        if not equals or not name.isidentifier() or keyword.iskeyword(name):
            raise UsageError(f"{assignment.strip()!r} is not of the form NAME=NUMBER")
        if name in variables:
            raise UsageError(f"{name} is given twice")
        try:
            value = float(number)
        except ValueError:
            raise UsageError(f"{name}={number}: {number!r} is not a number") from None
        if not math.isfinite(value):
            raise UsageError(f"{name}={number}: must be a finite float64")
        variables[name] = Value(value, label=name)
    return variables


def _output(path: Path | None, format: str | None) -> tuple[Path, str]:  # noqa: A002
    """The file to write and its format."""
    if path is None:
        return Path(f"graph.{format or 'svg'}"), FORMATS[format or "svg"]
    suffix = format or path.suffix[1:].lower() or "svg"
    if suffix not in FORMATS:
        raise UsageError(f"{path}: can't write {path.suffix} files, only {', '.join(FORMATS)}; or use --format")
    return path, FORMATS[suffix]


def _draw(text: str, assignments: Sequence[str], path: Path | None, format: str | None) -> int:  # noqa: A002
    variables = _variables(assignments)
    path, kind = _output(path, format)
    formula = parse(text)
    result = formula.value(**variables)
    result.backward()
    print(f"{text} = {result.data}")
    rows = [(name, variables[name]) for name in (*formula.names, *formula.constants) if name in variables]
    if rows:
        print()
        print(table(("variable", "value", "gradient"), ((name, v.data, v.grad) for name, v in rows)))
    if kind == "html":
        formula.explore(path, **variables)
        print(f"\nA page with its graph, and a field for other formulas: {path}")
        return 0
    drawing = draw_dot(result)
    write(path, drawing.source if kind == "dot" else drawing.pipe(format=kind, quiet=True))
    print(f"\nIts graph: {path}")
    return 0


def _say(text: str) -> None:
    """Print untrusted text: escape terminal control characters, and those outside of the terminal's encoding."""
    text = re.sub(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f]", lambda c: f"\\x{ord(c[0]):02x}", text)
    encoding = sys.stdout.encoding or "utf-8"
    print(text.encode(encoding, "backslashreplace").decode(encoding), end="")


def _migrate(paths: Sequence[Path], is_written: bool) -> int:
    for path in paths:
        if not path.exists():
            raise UsageError(f"{path}: no such file or folder")
    errors: list[str] = []
    count = changed = 0
    for file in sources(paths, errors):
        found = examine(file)
        count += 1
        errors += found.errors
        try:
            if found.is_changed and is_written:
                write(file, found.data)
                _say(f"{file}: changed\n")
            else:
                _say("".join(found.diff()))
            changed += found.is_changed
        except OSError as error:
            errors.append(f"{file}: {error.strerror or error}")
        _say("".join(f"{line}\n" for line in found.advice()))
    for line in errors:
        print(f"pygrad: error: {line}", file=sys.stderr)
    files = "1 file" if count == 1 else f"{count} files"
    if is_written:
        print(f"{changed} of {files} changed")
    else:
        print(f"{changed} of {files} would change{': --write changes them' if changed else ''}")
    return 1 if errors or (changed and not is_written) else 0


def _excerpt(text: str, position: int) -> str:
    """The formula around a position, and a caret below it."""
    start = max(0, position - SHOWN_AROUND)
    shown = "".join(c if c.isprintable() else " " for c in text[start : position + SHOWN_AROUND])
    return f"  {shown}\n  {' ' * (position - start)}^"


def _run(arguments: argparse.Namespace) -> int:
    if arguments.command == "demo":
        return run(arguments.steps, arguments.seed, arguments.out)
    if arguments.command == "play":
        return play(arguments.steps, arguments.seed, arguments.output)
    if arguments.command == "migrate":
        return _migrate(arguments.paths, arguments.write)
    text = arguments.formula.strip()
    try:
        return _draw(text, arguments.variables, arguments.output, arguments.format)
    except FormulaError as error:
        where = "" if error.position is None else f"\n{_excerpt(text, error.position)}"
        raise UsageError(f"{error}{where}") from None
    except (ArithmeticError, ValueError) as error:  # log(-1.0), 1.0 / 0.0, 9.0 ** 1e9
        raise UsageError(str(error)) from None


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; `argv` is sys.argv[1:] by default. Returns the exit status.

    0: done. 1: a required program or package is missing or fails; for `migrate`, a file would change or could not be
    read. 2: a usage error, with a line on stderr that starts with "pygrad: error:"; below it, errors in formulas show
    the position.
    """
    try:
        return _run(_parser().parse_args(_shield(sys.argv[1:] if argv is None else argv)))
    except UsageError as error:
        print(f"pygrad: error: {error}", file=sys.stderr)
        return 2
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        print(f"pygrad: error: {where}{error.strerror or error}", file=sys.stderr)
        return 2
    except subprocess.CalledProcessError as error:  # from the renderer
        said = (error.stderr or b"").decode(errors="replace").strip().splitlines()
        print(f"pygrad: error: the renderer failed{': ' + said[0] if said else ''}", file=sys.stderr)
        return 1
    except RuntimeError as error:  # from draw: no renderer, and how to install one
        print(f"pygrad: error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("pygrad: interrupted", file=sys.stderr)
        return 130
    except SystemExit as done:  # --help, --version
        return int(done.code or 0)
