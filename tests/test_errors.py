"""docs/errors.md: each of its examples raises what it says, word for word."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from errors_namespace import namespace

pytest.importorskip("numpy")
pytest.importorskip("matplotlib")
PAGE = Path(__file__).parent.parent / "docs" / "errors.md"
ROW = re.compile(r"^\| `(.+?)` \| `(\w+)` \| (.+) \| (.+) \|$", re.MULTILINE)
ROWS = ROW.findall(PAGE.read_text(encoding="utf-8"))


def test_the_page_has_its_rows():
    assert len(ROWS) == sum(line.startswith("| `") for line in PAGE.read_text(encoding="utf-8").splitlines()) > 40


@pytest.mark.parametrize(("code", "exception", "message", "_way_out"), ROWS, ids=[row[0][:40] for row in ROWS])
def test_mistakes_are_answered_as_the_page_says(pg, code, exception, message, _way_out, monkeypatch):
    monkeypatch.chdir(PAGE.parent.parent)
    names = namespace()
    before = pg.tape_stats().handles
    with pytest.raises(Exception) as error:
        exec(compile(code, "example.py", "exec"), names)
    assert type(error.value).__name__ == exception
    assert str(error.value).replace("\n", " / ").replace("|", "\\|") == message
    del error
    assert pg.tape_stats().handles - before < 2000
    assert names["x"].data == 2.0 and names["x"].label == "x"
