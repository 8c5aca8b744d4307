"""Drawing: a graphviz.Digraph whose text is quoted, and the program that renders it."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import sysconfig
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import graphviz
from graphviz.backend import dot_command

from pygrad._core.text import visible

_STRING_AT_MOST = 16_000  # bytes; dot fails for strings from 16,384 on


def find_renderer() -> str | None:
    """The program that renders: `dot` where it is on the PATH, else PyPI's graphviz-pure, else None."""
    found = shutil.which("dot") or shutil.which("graphviz-pure")
    if found is None:  # installed in a virtual environment that is not activated
        beside = Path(sysconfig.get_path("scripts")) / ("graphviz-pure.exe" if os.name == "nt" else "graphviz-pure")
        found = str(beside) if beside.exists() else None
    return found


@contextlib.contextmanager
def _renderer() -> Iterator[None]:
    """While something is rendered. RuntimeError if nothing can, or if what there is does not know the format."""
    found = find_renderer()
    if found is None:
        raise RuntimeError(
            "no program to render graphs with: pip install 'pygrad-engine[draw]', or install Graphviz so that "
            "`dot` is on the PATH; .source has the graph as text without it"
        )
    if Path(found).stem != "dot":
        dot_command.DOT_BINARY = Path(found)
    try:
        yield
    except subprocess.CalledProcessError as error:
        said = error.stderr.decode(errors="replace") if isinstance(error.stderr, bytes) else str(error.stderr)
        hint = (
            ""
            if Path(found).stem == "dot"
            else "; Graphviz, if you install it so that `dot` is on the PATH, knows more"
        )
        raise RuntimeError(f"{Path(found).stem}: {said.strip().rstrip('.')}{hint}") from None


class Drawing(graphviz.Digraph):
    """A graphviz.Digraph that finds its renderer, or says what to install.

    `node` and `edge` take text of the form <...> for HTML, and write it bare, with all that is in it. So this module
    draws by `put` and `join`, which quote all text.
    """

    def put(self, name: str, *lines: str, **looks: str) -> None:
        """Add a node: lines of text, the fields of a record if its shape is one."""
        label = "\\n".join(map(_text, lines))
        if looks.get("shape") == "record":
            label = f"{{ {' | '.join([_text(line, special='{}|<>') for line in lines])} }}"
        self.body.append(f'\t{name} [label="{label}"{_attributes(looks)}]\n')

    def join(self, tail: str, head: str, **looks: str) -> None:
        """Add an edge between nodes of these names."""
        self.body.append(f"\t{tail} -> {head}{f' [{_attributes(looks)} ]' if looks else ''}\n")

    def pipe(self, *args: Any, **kwargs: Any) -> Any:
        """As graphviz.Digraph.pipe: the picture, as bytes or text. RuntimeError if it can't be rendered."""
        with _renderer():
            return super().pipe(*args, **kwargs)

    def render(self, filename: Any = None, *args: Any, **kwargs: Any) -> str:
        """As graphviz.Digraph.render: writes the picture; "g" and "g.svg" both give g.svg. RuntimeError as pipe."""
        if filename is not None and Path(filename).suffix == f".{kwargs.get('format') or self.format}":
            filename = Path(filename).with_suffix("")
        with _renderer():
            return cast(str, super().render(filename, *args, **kwargs))

    def _repr_mimebundle_(self, *args: Any, **kwargs: Any) -> dict[str, str]:
        with _renderer():
            return cast("dict[str, str]", super()._repr_mimebundle_(*args, **kwargs))


def _text(text: str, special: str = "", backslash: str = "\\\\") -> str:
    """Text as DOT shows it, where backslashes and entities mean something, and `special` too; cut to what dot reads."""
    written = {"\\": backslash, "&": "&amp;", '"': '\\"', **{c: f"\\{c}" for c in special}}
    parts = [written.get(c, c) for c in visible(text)]
    room = _STRING_AT_MOST
    if 5 * len(parts) > room:  # 5 is the size of &amp;
        for i, part in enumerate(parts):
            room -= len(part.encode())
            if room < 0:
                parts[i:] = [" …"]
                break
    return "".join(parts)


def _attributes(looks: dict[str, str]) -> str:
    # Graphviz replaces escapes in tooltips twice.
    return "".join([f' {key}="{_text(text, backslash=chr(92) * 4)}"' for key, text in looks.items()])
