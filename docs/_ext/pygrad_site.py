"""What the site's build does beside Sphinx: runs the code of guides, follows links of the repository, and reads
docstrings, the table of operations and the command line.

A guide is a page that also reads well as a file of the repository: its blocks of Python run at build, and a block of
text after one is what it prints. Its links to files outside docs/ lead to their pages here.
"""

from __future__ import annotations

import contextlib
import io
import os
import re
import tempfile
import warnings
from pathlib import Path
from typing import Any

import blocks
import inventories
import operations
from sphinx.application import Sphinx
from sphinx.util import logging

logger = logging.getLogger(__name__)

REPOSITORY = "https://github.com/pygrad-engine/pygrad"
ROOT = Path(__file__).parent.parent.parent
# Files outside docs/, and the pages that show them.
PAGES = {
    "README.md": "index.md",
    "CHANGELOG.md": "project/changelog.md",
    "CONTRIBUTING.md": "project/contributing.md",
    "SECURITY.md": "project/security.md",
    "benchmarks/RESULTS.md": "speed.md",
    "examples": "gallery/index.rst",
    "examples/lecture.ipynb": "gallery/lecture.rst",
}
INCLUDE = re.compile(r"^```\{file\} (\S+)( part)?\n```$", re.MULTILINE)  # part: without its title
TO_TOP = re.compile(r'(?<!"Top">)(<a href="#" class="back-to-top.*?</a>)', re.DOTALL)
GALLERY_LINK = re.compile(r'<a (class="reference internal" href="[^"]*"><span class="doc">([^<]*)</span></a>)')
DRAWING = re.compile(r'alt="(?:\.\./)*_images/[0-9a-f]{64}\.svg"')
GALLERY_DRAWING = re.compile(
    r'(?<!<div class="cell_output">)(<img src="[^"]*\.svg"[^>]* class = "sphx-glr-single-img"/>)'
)
LINK = re.compile(r"(?<!`)(!?)\[([^\]]*)\]\(([^)\s#]+)(#[^)\s]*)?\)")


def read(app: Sphinx, name: str, source: list[str]) -> None:
    """source-read: files that a page takes in, generated parts, links, and code."""
    path = Path(app.env.doc2path(name))
    if path.suffix != ".md":
        return
    text = _linked(source[0], path.parent)
    text = INCLUDE.sub(lambda found: _file(app, found[1], bool(found[2])), text)
    if "```{operations}\n```" in text:
        text = text.replace("```{operations}\n```", operations.page(Path(app.srcdir) / "_generated"))
    if "```{help}" in text:
        text = re.sub(r"```\{help\} ?(.*)\n```", lambda found: _help(found[1].split()), text)
    if "{code-cell}" not in text:
        _run(name, text)
    source[0] = text


def _file(app: Sphinx, file: str, part: bool) -> str:
    path = ROOT / file
    app.env.note_dependency(str(path))
    text = path.read_text(encoding="utf-8")
    return _linked(text.partition("\n")[2] if part else text, path.parent)


def _linked(text: str, folder: Path) -> str:
    """The text with links from `folder` as links from the top of docs/, and to pages of files outside of it."""

    def link(found: re.Match[str]) -> str:
        image, label, target, anchor = found[1], found[2], found[3], found[4] or ""
        if "://" in target or target.startswith(("/", "mailto:", "project:")):
            return found[0]
        path = Path(os.path.normpath(folder / target))
        outer = path.relative_to(ROOT).as_posix()
        if outer.startswith("docs/"):
            return f"{image}[{label}](/{outer[len('docs/') :]}{anchor})"
        if image:
            return f"![{label}](/../{outer})"
        if outer in PAGES:
            return f"[{label}](/{PAGES[outer]}{anchor})"
        if outer.startswith("examples/") and outer.endswith(".py"):
            return f"[{label}](/gallery/{path.stem}.rst)"
        return f"[{label}]({REPOSITORY}/blob/main/{outer})"  # a file that the site does not show

    parts = re.split(r"(^```.*?^```$)", text, flags=re.MULTILINE | re.DOTALL)
    return "".join(part if part.startswith("```") else LINK.sub(link, part) for part in parts)


def _run(name: str, text: str) -> None:
    """Run the page's blocks of Python, section by section, and compare what they print."""
    before = Path.cwd()
    for title, program in blocks.programs(text, whole="/" in name):
        with tempfile.TemporaryDirectory() as folder, contextlib.chdir(folder), warnings.catch_warnings():
            warnings.simplefilter("error")
            namespace: dict[str, object] = {"__name__": "__main__"}
            for source, expected in program:
                printed = io.StringIO()
                try:
                    with contextlib.redirect_stdout(printed):
                        blocks.run(source, namespace)
                except Exception as error:  # whatever a page's code raises, the page is at fault
                    logger.warning("%s: its code raises %r:\n%s", title, error, source, location=name)
                    break
                if blocks.rounded(printed.getvalue()) != blocks.rounded(expected):
                    logger.warning("%s: prints\n%snot\n%s", title, printed.getvalue(), expected, location=name)
    assert Path.cwd() == before


def _help(command: list[str]) -> str:
    from pygrad._cli.cli import main

    printed = io.StringIO()
    os.environ["COLUMNS"] = "88"
    with contextlib.redirect_stdout(printed), contextlib.suppress(SystemExit):
        main([*command, "--help"])
    return f"```text\n$ pygrad {' '.join([*command, '--help'])}\n{printed.getvalue().rstrip()}\n```"


def docstring(_app: Sphinx, _what: str, _name: str, _of: Any, _options: Any, lines: list[str]) -> None:
    """Docstrings are text with code in backticks; to reStructuredText, stars and bars in them would be markup."""
    found, in_example = [], False
    for line in lines:
        if line.lstrip().startswith(">>>"):
            if not in_example and found and found[-1].strip():
                found.append("")
            in_example = True
        elif not line.strip():
            in_example = False
        if in_example:
            found.append(line)
        else:
            parts = re.split(r"(`[^`]*`)", line)
            found.append("".join(p if p.startswith("`") else re.sub(r"([*|]|_\b)", r"\\\1", p) for p in parts))
    lines[:] = found


def finish(app: Sphinx, exception: Exception | None) -> None:
    """build-finished: names and levels that furo, the notebooks and the gallery leave out, for screen readers.

    Pages that were not built anew have them already, and stay as they are.
    """
    if exception or app.builder.format != "html":
        return
    for path in Path(app.outdir).rglob("*.html"):
        text = path.read_text(encoding="utf-8")
        new = text.replace('class="caption" role="heading">', 'class="caption" role="heading" aria-level="2">')
        new = new.replace('<aside class="sidebar-drawer">', '<aside class="sidebar-drawer" aria-label="Pages">')
        new = new.replace('<aside class="toc-drawer', '<aside aria-label="On this page" class="toc-drawer')
        new = new.replace('<summary aria-label="Toggle hidden content">', "<summary>")
        new = new.replace('<th class="head"><p></p></th>', "<td></td>")
        if path.name == "search.html":
            new = new.replace('<div id="search-results">', '<h1>Search</h1>\n<div id="search-results">')
        new = DRAWING.sub('alt="the graph that the code above draws"', new)
        new = GALLERY_DRAWING.sub(r'<div class="cell_output">\1</div>', new)
        new = TO_TOP.sub(r'<nav aria-label="Top">\1</nav>', new)
        new = GALLERY_LINK.sub(r'<a aria-label="\2" \1', new)
        if new != text:
            path.write_text(new, encoding="utf-8")


def setup(app: Sphinx) -> dict[str, bool]:
    inventories.write(Path(app.srcdir) / "_build" / "inventories")
    app.connect("source-read", read)
    app.connect("autodoc-process-docstring", docstring)
    app.connect("build-finished", finish)
    return {"parallel_read_safe": False, "parallel_write_safe": True}
