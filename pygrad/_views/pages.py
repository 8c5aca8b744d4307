"""Pages: one HTML file each, of the style, the scripts and the engine in web/, and the page's data.

A page runs its own script alone and loads nothing: its Content-Security-Policy says so, by hashes.
"""

from __future__ import annotations

import base64
import functools
import hashlib
import html
import json
import math
import os
import re
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from pygrad._core.files import write
from pygrad._core.text import visible

_WEB = Path(__file__).with_name("web")
_PACKED_FROM = 100_000  # characters of data from which on they are compressed
_PICTURES = (".png", ".svg", ".pdf", ".jpg", ".jpeg", ".gif")  # refused suffixes: these are no pages


class Page(NamedTuple):
    """The result of explore and playground. It displays itself in a notebook."""

    path: Path | None  # the file written, if any
    html: str

    def _repr_html_(self) -> str:
        document = html.escape(self.html, quote=True)
        style = "width:100%;height:640px;border:0"
        return f'<iframe srcdoc="{document}" sandbox="allow-scripts" title="pygrad" style="{style}"></iframe>'

    def __repr__(self) -> str:
        return f"Page({'not written' if self.path is None else str(self.path)!r}, {len(self.html):,} characters)"


def refuse_pictures(path: str | os.PathLike[str] | None, function: str) -> None:
    """Raise ValueError if `path` is named as a picture."""
    if path is not None and Path(path).suffix.lower() in _PICTURES:
        raise ValueError(
            f"path={str(path)!r}: {function} writes a page, 'backward.html'; draw_dot(v).render('graph') a picture"
        )


def assemble(
    template: str, scripts: Sequence[str], data: Any, title: str, path: str | os.PathLike[str] | None = None
) -> Page:
    """The page of a template and scripts of web/, without their suffixes; written to `path` unless it is None."""
    style = _tight("".join(_read(f"{name}.css") for name in dict.fromkeys(("page", template)) if _has(f"{name}.css")))
    script = _tight('"use strict";\n(() => {\n' + "".join(_read(f"{name}.js") for name in scripts) + "})();\n")
    packed, text = _pack(data)
    parts = {
        "title": html.escape(visible(title)),
        "style": style,
        "style_hash": _hash(style),
        "script": script,
        "script_hash": _hash(script),
        "packed": packed,
        "data": text,
        "engine": _engine(),
    }
    # Replace in one pass, since a label may contain {{data}}.
    page = re.sub(r"\{\{(\w+)\}\}", lambda m: parts[m[1]], _read(f"{template}.html"))
    if path is not None:
        write(path, page)
    return Page(None if path is None else Path(path), page)


@functools.cache
def _read(name: str) -> str:
    return (_WEB / name).read_text(encoding="utf-8")


def _has(name: str) -> bool:
    return (_WEB / name).exists()


@functools.cache
def _tight(code: str) -> str:
    """Code without indentation and lines that are comments."""
    lines = (line.strip() for line in code.splitlines())
    return "\n".join(line for line in lines if line and not line.startswith("//"))


@functools.cache
def _engine() -> str:
    """The engine, compressed, as base64."""
    return _base64(_deflated((_WEB / "engine.wasm").read_bytes()))


def _deflated(data: bytes) -> bytes:
    return zlib.compress(data, 9)


def _base64(data: bytes) -> str:
    return base64.b64encode(data).decode()


def _hash(text: str) -> str:
    return f"sha256-{_base64(hashlib.sha256(text.encode()).digest())}"


def _pack(data: Any) -> tuple[str, str]:
    """The data as JSON that can't end a script, and ''; or, if they are many, compressed and 'deflate'."""
    text = json.dumps(_plain(data), ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    if len(text) >= _PACKED_FROM:
        return "deflate", _base64(_deflated(text.encode()))
    for c in "<>&\u2028\u2029":  # these could end the script
        text = text.replace(c, f"\\u{ord(c):04x}")
    return "", text


def _plain(x: Any) -> Any:
    """JSON data: every string made visible (see text.py), numbers that JSON lacks as strings."""
    if isinstance(x, float):
        return x if math.isfinite(x) else repr(x)
    if isinstance(x, dict):
        return {visible(key) if isinstance(key, str) else key: _plain(y) for key, y in x.items()}
    if isinstance(x, (list, tuple)):
        return [_plain(y) for y in x]
    return visible(x) if isinstance(x, str) else x
