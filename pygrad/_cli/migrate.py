"""Migrate from micrograd to pygrad: change the imports of programs and notebooks, and list different behaviour.

Edits names in the text, where Python's own parser finds imports and uses. The new syntax tree must be the old one with
these names changed; otherwise nothing is edited. The cells of a notebook are one program; only JSON strings with new
lines are rewritten.
"""

from __future__ import annotations

import ast
import difflib
import io
import json
import os
import re
import tokenize
import warnings
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import accumulate
from json.decoder import scanstring  # type: ignore[attr-defined]
from json.scanner import py_make_scanner  # type: ignore[attr-defined]
from pathlib import Path

from pygrad._cli.differences import NEW, OLD, differences, left_alone, own_values, renamed, strings

_LEFT_OUT = {"__pycache__", "node_modules", "site-packages"}


@dataclass
class Found:
    """The findings of `examine` in one file, by segment: the cells of a notebook, or the whole program."""

    path: Path
    names: list[str] = field(default_factory=list)  # "a.py", "a.ipynb:cell 3"
    before: list[str] = field(default_factory=list)
    after: list[str] = field(default_factory=list)
    data: bytes = b""  # the whole file after the change
    notes: set[tuple[int, int, str]] = field(default_factory=set)  # segment, line from 1, sentence
    errors: list[str] = field(default_factory=list)  # reasons why the file, or a cell, could not be read

    @property
    def is_changed(self) -> bool:
        return self.before != self.after

    def advice(self) -> list[str]:
        """The notes in order, each with its place."""
        return [f"{self.names[segment]}:{line}: {text}" for segment, line, text in sorted(self.notes)]

    def diff(self) -> Iterator[str]:
        """The changes, as the lines of a unified diff."""
        for name, before, after in zip(self.names, self.before, self.after):
            for line in difflib.unified_diff(_lines(before), _lines(after), name, name):
                yield line if line.endswith(("\r", "\n")) else f"{line}\n\\ No newline at end of file\n"


def sources(paths: Iterable[Path], errors: list[str]) -> Iterator[Path]:
    """The files given, and every .py and .ipynb below the folders given, each once.

    Hidden folders, virtual environments and installed packages are left out. `errors` gets folders that cannot be read.
    """
    seen: set[str] = set()
    for path in paths:
        found = [path]
        if path.is_dir():
            found = []
            for folder, inner, files in os.walk(path, onerror=lambda error: errors.append(_said(error))):
                inner[:] = sorted(d for d in inner if d[0] != "." and d not in _LEFT_OUT)
                inner[:] = [d for d in inner if not Path(folder, d, "pyvenv.cfg").exists()]
                found += [Path(folder, f) for f in sorted(files) if f.endswith((".py", ".ipynb")) and f[0] != "."]
        for file in found:
            real = os.path.realpath(file)
            if real not in seen:
                seen.add(real)
                yield file


def _said(error: OSError) -> str:
    return f"{error.filename}: {error.strerror or error}"


def examine(path: Path) -> Found:
    """Find the changes and notes for a file. If it can't be read, Found.errors says why."""
    found = Found(path)
    try:
        data = found.data = path.read_bytes()
        if any(word in data for word in (OLD.encode(), b"_backward", b"_local_grads")):
            (_notebook if path.suffix == ".ipynb" else _python)(found, data)
    except OSError as error:
        found.errors.append(_said(error))
    except (RecursionError, MemoryError):
        found.errors.append(f"{path}: nested too deeply to be read")
    except (AttributeError, TypeError, ValueError, SyntaxError, LookupError, tokenize.TokenError) as error:
        kind = "not a notebook" if path.suffix == ".ipynb" else "cannot be read"
        found.errors.append(f"{path}: {kind}: {error}")
    return found


def _lines(text: str) -> list[str]:
    """The lines of `text` with their ends, as Python's parser counts them: a form feed does not end a line."""
    return re.findall(r"[^\r\n]*(?:\r\n|\r|\n)|[^\r\n]+\Z", text)


def _parsed(text: str) -> ast.Module:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of invalid escapes in strings
        return ast.parse(text)


def _stop(error: SyntaxError | ValueError) -> tuple[int, str]:
    """Where the parser stopped, a line from 1, and why. Null bytes raise ValueError."""
    if isinstance(error, SyntaxError):
        return error.lineno or 1, f"does not parse: {error.msg}"
    return 1, f"does not parse: {error}"


def _python(found: Found, data: bytes) -> None:
    encoding, _ = tokenize.detect_encoding(io.BytesIO(data).readline)
    text = data.decode(encoding)
    found.names, found.before, found.after = [str(found.path)], [text], [text]
    if text.encode(encoding) != data:
        found.errors.append(f"{found.path}: {encoding} can write this text in several ways: save it as UTF-8")
        return
    try:
        _parsed(text)
    except (SyntaxError, ValueError) as error:
        found.errors.append("{}:{}: {}".format(found.path, *_stop(error)))
        return
    edits = _program(found, [_lines(text)])
    found.after = [_edited(text, edits[0])]
    found.data = found.after[0].encode(encoding)


# ---- Notebooks -------------------------------------------------------------------------------------


class _Text(str):
    """A string in a JSON document that knows its position there, quotes included."""

    start: int
    stop: int


class _Decoder(json.JSONDecoder):
    """json's Python decoder, with _Texts as strings."""

    def __init__(self) -> None:
        super().__init__()
        self.parse_string = self._located
        self.scan_once = py_make_scanner(self)

    @staticmethod
    def _located(text: str, start: int, strict: bool) -> tuple[_Text, int]:
        value, stop = scanstring(text, start, strict)
        made = _Text(value)
        made.start, made.stop = start - 1, stop
        return made, stop


# Lines for IPython, not Python; and magics whose cells are still Python.
_IPYTHON = re.compile(r"\s*([%!?]|.*\?\s*$|[\w.,\s\[\]]+=\s*[%!]|(pip3?|conda|mamba|cd|ls)\s)")
_PYTHON_CELL = re.compile(r"\s*%%(time|timeit|capture|prun|memit|mprun|lprun)\b")


def _masked(cell: str) -> tuple[list[str], list[int]] | tuple[int, str]:
    """A cell's lines, with `pass` for those of IPython, and the indices of these; or where parsing fails, and why.

    Replaces only lines where the parser stops, so a % inside an expression or a string stays.
    """
    lines = _lines(cell)
    masked: list[int] = []

    def mask(i: int) -> None:
        text, lines[i] = lines[i].rstrip(), lines[i][: -len(lines[i].lstrip(" \t"))] + "pass\n"
        masked.append(i)
        while text.endswith("\\") and (i := i + 1) < len(lines):
            text, lines[i] = lines[i].rstrip(), "\n"
            masked.append(i)

    first = next((i for i, line in enumerate(lines) if line.strip()), 0)
    if lines and lines[first].lstrip().startswith("%%"):
        for i in range(first, first + 1 if _PYTHON_CELL.match(lines[first]) else len(lines)):
            lines[i] = "pass\n"
            masked.append(i)
    while True:
        try:
            _parsed("".join(lines))
        except (SyntaxError, ValueError) as error:
            line, why = _stop(error)
            near = [i for i in (line - 1, line - 2) if 0 <= i < len(lines)]
            rest = [i for i in (*near, *range(len(lines))) if i not in masked and _IPYTHON.match(lines[i])]
            if not rest:
                return line, why
            mask(rest[0])
        else:
            return lines, masked


def _notebook(found: Found, data: bytes) -> None:
    text = data.decode("utf-8")
    body = text.lstrip("\ufeff")
    notebook = _Decoder().decode(body)
    meta = notebook.get("metadata", {})
    kinds = [(meta.get("kernelspec") or {}).get("language"), (meta.get("language_info") or {}).get("name"), "python"]
    language = next(filter(None, kinds))
    if not language.lower().startswith(("python", "ipython")):
        return
    cells = notebook.get("cells") or [cell for sheet in notebook.get("worksheets", []) for cell in sheet["cells"]]
    parts: list[list[_Text]] = []  # for each readable cell
    lines: list[list[str]] = []
    keeps_name = False  # a line that can't be changed uses it
    for number, cell in enumerate(cells, 1):
        if cell["cell_type"] != "code":
            continue
        source = cell.get("source", cell.get("input", ""))
        pieces = [source] if isinstance(source, _Text) else list(source)
        code, name = "".join(pieces), f"{found.path}:cell {number}"
        made = _masked(code)
        if isinstance(made[0], int):
            found.errors.append(f"{name}:{made[0]}: {made[1]}")
            keeps_name |= OLD in code
            continue
        written = _lines(code)
        for i in made[1]:
            if re.search(rf"\b{OLD}\b", written[i]):
                keeps_name |= bool(re.search(rf"\b{OLD}\.|\bimport\b", written[i]))
                first = i
                while first - 1 in made[1] and written[first - 1].rstrip().endswith("\\"):
                    first -= 1
                found.notes.add((len(lines), i + 1, left_alone(" ".join(map(str.strip, written[first : i + 1])))))
        found.names.append(name)
        found.before.append(code)
        parts.append(pieces)
        lines.append(made[0])
    edits = _program(found, lines, keeps_name)
    found.after = [_edited(*both) for both in zip(found.before, edits)]
    changes: list[Edit] = []
    for pieces, own in zip(parts, edits):
        at = 0
        for piece in pieces:
            new = _edited(piece, own, at)
            at += len(piece)
            if new != piece:
                literal = json.dumps(new, ensure_ascii=body[piece.start : piece.stop].isascii())
                changes.append((piece.start, piece.stop, literal))
    found.data = (text[: len(text) - len(body)] + _edited(body, changes)).encode("utf-8")


# ---- Edits -----------------------------------------------------------------------------------------

Edit = tuple[int, int, str]  # from, to, and the new text


def _edited(text: str, edits: Iterable[Edit], start: int = 0) -> str:
    """Apply the edits that lie in `text`, a part that begins at offset `start` of the whole."""
    parts, at = [], 0
    for first, last, new in sorted(edits):
        a, b = first - start, last - start
        if b > 0 and a < len(text):
            parts += [text[at : max(a, 0)], new if a >= 0 else ""]
            at = min(b, len(text))
    return "".join([*parts, text[at:]])


class _Renaming(ast.NodeTransformer):
    """Turns a program's tree into the one that its edits must produce."""

    def __init__(self, keeps_name: bool) -> None:
        self.keeps_name = keeps_name

    def visit_Import(self, node: ast.Import) -> ast.Import:
        names = []
        for name in node.names:
            new = renamed(name.name)
            if new is None:
                names.append(name)
            elif name.asname or not self.keeps_name:
                names.append(ast.alias(new, name.asname))
            else:
                names += [*([ast.alias(new, None)] if "." in new else []), ast.alias(NEW, OLD)]
        return ast.Import(names)

    def visit_ImportFrom(self, node: ast.ImportFrom) -> ast.ImportFrom:
        new = None if node.level else renamed(node.module)
        return ast.ImportFrom(new or node.module, node.names, node.level)

    def visit_Name(self, node: ast.Name) -> ast.Name:
        return ast.Name(NEW, node.ctx) if node.id == OLD and not self.keeps_name else node

    def visit_Global(self, node: ast.Global) -> ast.Global:
        return ast.Global([NEW if name == OLD and not self.keeps_name else name for name in node.names])

    def visit_Nonlocal(self, node: ast.Nonlocal) -> ast.Nonlocal:
        return ast.Nonlocal([NEW if name == OLD and not self.keeps_name else name for name in node.names])


class _Program:
    """A program with its tree and tokens, and the edits that change its imports: (line from 1, column, to, new)."""

    def __init__(self, lines: Sequence[str]) -> None:
        self.lines = [line.rstrip("\r\n") + "\n" for line in lines]
        text = "".join(self.lines)
        self.tree = _parsed(text)
        self.tokens = list(tokenize.generate_tokens(io.StringIO(text, newline="\n").readline))
        self.starts = {token.start: i for i, token in enumerate(self.tokens)}

    def imports(self) -> bool:
        """Whether it imports micrograd."""
        return any(
            any(renamed(name.name) for name in node.names)
            if isinstance(node, ast.Import)
            else isinstance(node, ast.ImportFrom) and not node.level and bool(renamed(node.module))
            for node in ast.walk(self.tree)
        )

    def binds_otherwise(self) -> bool:
        """Whether the old or the new name is bound to anything but the package."""
        uses_new = binds_new = False
        for node in ast.walk(self.tree):
            if isinstance(node, (ast.Import, ast.ImportFrom)):
                for name in node.names:
                    bound = name.asname or name.name.partition(".")[0]
                    own = isinstance(node, ast.Import) and not name.asname
                    if bound in (OLD, NEW) and not own:
                        return True
                    binds_new |= bound == NEW and node in self.tree.body
            elif isinstance(node, ast.Name):
                if node.id in (OLD, NEW) and isinstance(node.ctx, ast.Store):
                    return True
                uses_new |= node.id == NEW
            elif not isinstance(node, (ast.Attribute, ast.keyword, ast.Constant, ast.alias)) and any(
                value in (OLD, NEW) for _, value in ast.iter_fields(node) if isinstance(value, str)
            ):
                return True  # an argument, a function, a class, an exception, a pattern
        return uses_new and not binds_new

    def edits(self, keeps_name: bool) -> list[tuple[int, int, int, str]]:
        found: list[tuple[int, int, int, str]] = []
        for node in ast.walk(self.tree):
            if isinstance(node, ast.Name):
                if node.id == OLD and not keeps_name:
                    line, column = self._place(node)
                    found.append((line, column, column + len(OLD), NEW))
            elif isinstance(node, (ast.Import, ast.ImportFrom, ast.Global, ast.Nonlocal)):
                tokens = list(_statement(self.tokens[self.starts[self._place(node)] :]))
                edits: Iterable[tuple[tokenize.TokenInfo, str]] = ()
                if isinstance(node, ast.Import):
                    edits = _import_edits(tokens[1:], keeps_name)
                elif isinstance(node, ast.ImportFrom):
                    edits = [(tokens[1], NEW)] if not node.level and renamed(node.module) else []
                elif not keeps_name:
                    edits = [(token, NEW) for token in tokens if token.string == OLD]
                found += [(*token.start, token.end[1], new) for token, new in edits]
        return found

    def _place(self, node: ast.Name | ast.stmt) -> tuple[int, int]:
        """The node's line, and its column in characters."""
        line = self.lines[node.lineno - 1].encode()
        return node.lineno, len(line[: node.col_offset].decode(errors="ignore"))


def _statement(tokens: Iterable[tokenize.TokenInfo]) -> Iterator[tokenize.TokenInfo]:
    """The tokens up to the end of a simple statement."""
    for token in tokens:
        if token.type in (tokenize.NEWLINE, tokenize.COMMENT, tokenize.ENDMARKER) or token.string == ";":
            return
        yield token


def _import_edits(tokens: Iterable[tokenize.TokenInfo], keeps_name: bool) -> Iterator[tuple[tokenize.TokenInfo, str]]:
    names: list[list[tokenize.TokenInfo]] = [[]]
    for token in tokens:
        if token.string == ",":
            names.append([])
        else:
            names[-1].append(token)
    for name in names:
        if name[0].string == OLD:
            first, last = name[0], name[-1]
            is_bare = keeps_name and all(token.string != "as" for token in name)
            if is_bare and first is last:
                yield first, f"{NEW} as {OLD}"
            else:
                yield first, NEW
                if is_bare:
                    yield last, f"{last.string}, {NEW} as {OLD}"


def _program(found: Found, segments: Sequence[Sequence[str]], keeps_name: bool = False) -> list[list[Edit]]:
    """The edits for each segment, given as lines; notes and errors go to `found`.

    The name stays if it is bound to anything else or used in a fixed line: import pygrad as micrograd.
    """
    places = [(segment, line) for segment, lines in enumerate(segments) for line in range(len(lines))]
    program = _Program([line for lines in segments for line in lines])
    imports, own = program.imports(), own_values(program.tree)
    edits: list[list[Edit]] = [[] for _ in segments]
    for line, text in [*own, *(strings(program.tree)), *(differences(program.tree) if imports or own else ())]:
        segment, number = places[line - 1]
        found.notes.add((segment, number + 1, text))
    if not imports:
        return edits
    ways = [True] if keeps_name or program.binds_otherwise() else [False, True]
    changes: list[tuple[int, int, int, str]] = []
    for keeps in ways:
        changes = program.edits(keeps)
        lines = list(program.lines)
        for line, first, last, new in sorted(changes, reverse=True):
            lines[line - 1] = lines[line - 1][:first] + new + lines[line - 1][last:]
        try:
            after = _parsed("".join(lines))
        except SyntaxError:
            continue
        if ast.dump(after) == ast.dump(_Renaming(keeps).visit(_parsed("".join(program.lines)))):
            break
    else:
        found.errors.append(f"{found.path}: its imports of {OLD} cannot be changed by rule: change them by hand")
        return edits
    starts = [[0, *accumulate(map(len, _lines(text)))] for text in found.before]
    for line, first, last, new in changes:
        segment, number = places[line - 1]
        start = starts[segment][number]
        edits[segment].append((start + first, start + last, new))
    return edits
