"""Drawing: a graphviz.Digraph that quotes all text, and the search for a renderer."""

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

_STRING_AT_MOST = 16_000  # bytes; dot fails for strings of 16,384 or more

_PICTURES = {"eps", "gif", "jpeg", "jpg", "pdf", "png", "ps", "svg", "webp"}  # endings of files, as graphviz's formats


def find_renderer() -> str | None:
    """The renderer: `dot` if it is on the PATH, else PyPI's graphviz-pure, else None."""
    found = shutil.which("dot") or shutil.which("graphviz-pure")
    if found is None:  # it may be in a virtual environment that is not active
        beside = Path(sysconfig.get_path("scripts")) / ("graphviz-pure.exe" if os.name == "nt" else "graphviz-pure")
        found = str(beside) if beside.exists() else None
    return found


@contextlib.contextmanager
def _renderer() -> Iterator[None]:
    """Context for rendering. Raises RuntimeError if there is no renderer, or if it does not know the format."""
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

    `node` and `edge` take text of the form <...> for HTML and write it unquoted. So pygrad draws with `put` and
    `join`, which quote all text.
    """

    def put(self, name: str, *lines: str, **looks: str) -> None:
        """Add a node: lines of text, or the fields of a record if that is its shape."""
        label = "\\n".join(map(_text, lines))
        if looks.get("shape") == "record":
            label = f"{{ {' | '.join([_text(line, special='{}|<>') for line in lines])} }}"
        self.body.append(f'\t{name} [label="{label}"{_attributes(looks)}]\n')

    def join(self, tail: str, head: str, **looks: str) -> None:
        """Add an edge between nodes of these names."""
        self.body.append(f"\t{tail} -> {head}{f' [{_attributes(looks)} ]' if looks else ''}\n")

    def pipe(self, *args: Any, **kwargs: Any) -> Any:
        """As graphviz.Digraph.pipe: the picture, as bytes or text. Raises RuntimeError if it can't be rendered."""
        with _renderer():
            return super().pipe(*args, **kwargs)

    def render(self, filename: Any = None, *args: Any, **kwargs: Any) -> str:
        """As graphviz.Digraph.render: write the picture; "g" and "g.svg" both write g.svg. RuntimeError as pipe.

        "g.png" writes g.png, whatever the format of the drawing, unless `format` is passed.
        """
        ending = "" if filename is None else Path(filename).suffix[1:]
        if ending in _PICTURES and "format" not in kwargs and "outfile" not in kwargs and len(args) < 4:
            kwargs["format"] = ending
        if filename is not None and ending == (kwargs.get("format") or self.format):
            filename = Path(filename).with_suffix("")
        with _renderer():
            return cast(str, super().render(filename, *args, **kwargs))

    def _repr_mimebundle_(self, *args: Any, **kwargs: Any) -> dict[str, str]:
        with _renderer():
            bundle = cast("dict[str, str]", super()._repr_mimebundle_(*args, **kwargs))
        return {kind: fitted(text) if kind == "image/svg+xml" else text for kind, text in bundle.items()}


def fitted(svg: str) -> str:
    """A picture that is no wider than the notebook's cell, so that the root, at its right end, is seen."""
    return svg.replace("<svg ", '<svg style="max-width:100%;height:auto" ', 1)


def _text(text: str, special: str = "", backslash: str = "\\\\") -> str:
    """Text escaped for DOT (backslashes, entities, and `special`), and cut to the length that dot can read."""
    written = {"\\": backslash, "&": "&amp;", '"': '\\"', **{c: f"\\{c}" for c in special}}
    parts = [written.get(c, c) for c in visible(text)]
    room = _STRING_AT_MOST
    if 5 * len(parts) > room:  # &amp; has 5 characters
        for i, part in enumerate(parts):
            room -= len(part.encode())
            if room < 0:
                parts[i:] = [" …"]
                break
    return "".join(parts)


def _attributes(looks: dict[str, str]) -> str:
    # Graphviz replaces escapes in tooltips twice.
    return "".join([f' {key}="{_text(text, backslash=chr(92) * 4)}"' for key, text in looks.items()])
