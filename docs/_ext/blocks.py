"""Runs the Python of a page of Markdown, and compares what it prints with the block of text that follows.

Blocks under one `##` heading run one after another in one namespace; so do all of a page in a folder of docs/.
tests/test_readme.py and the site's build use this, so a page that says something untrue fails both.
"""

from __future__ import annotations

import linecache
import re
from collections.abc import Iterator

BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
Program = list[tuple[str, str]]  # a source and what it prints, block by block


def rounded(text: str) -> str:
    """The text with long decimals rounded, since `tanh` of C libraries may differ in the last place."""
    text = re.sub(r"-?\d+\.\d{10,}", lambda number: f"{float(number[0]):.10g}", text)
    return re.sub(" +", " ", text)


def programs(text: str, alone: bool = False, whole: bool = False) -> Iterator[tuple[str, Program]]:
    """The title of each section with Python in it, and its blocks: one program, or each block alone.

    whole: the page is one program.
    """
    for section in re.split(r"^# " if whole else r"^##? ", text, flags=re.MULTILINE)[1:]:
        title, blocks = section.partition("\n")[0], BLOCK.findall(section)
        pairs = [(block[1], after) for block, after in zip(blocks, [*blocks[1:], ("", "")]) if block[0] == "python"]
        program = [(source, text if kind == "text" else "") for source, (kind, text) in pairs]
        for found in [[pair] for pair in program] if alone else [program] if program else []:
            yield title, found


def run(source: str, namespace: dict[str, object]) -> None:
    """Execute a block as the file example.py, whose lines listings and errors can show."""
    linecache.cache["example.py"] = (len(source), None, source.splitlines(keepends=True), "example.py")
    exec(compile(source, "example.py", "exec"), namespace)
