"""What type checkers say of user code: tests/typed/right.py has no error, wrong.py has one on each marked line."""

from __future__ import annotations

import importlib.util
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

TYPED = Path(__file__).parent / "typed"
CHECKERS = {
    "mypy": [sys.executable, "-m", "mypy", "--strict", "--no-error-summary", "--hide-error-context"],
    "pyright": ["pyright", "--pythonpath", sys.executable],
}


def marked():
    """The lines of wrong.py that have a mistake."""
    lines = (TYPED / "wrong.py").read_text(encoding="utf-8").splitlines()
    return {i for i, line in enumerate(lines, 1) if re.search(r"# \d+$", line)}


def test_the_code_that_must_be_accepted_runs():
    pytest.importorskip("numpy")
    assert len((TYPED / "right.py").read_text(encoding="utf-8").splitlines()) >= 100
    out = subprocess.check_output([sys.executable, TYPED / "right.py"], text=True)
    assert out == "True 8.0\n"


@pytest.mark.parametrize("checker", CHECKERS)
def test_mistakes_are_found_and_nothing_else(checker, tmp_path):
    is_there = importlib.util.find_spec("mypy") if checker == "mypy" else shutil.which("pyright")
    if not is_there or importlib.util.find_spec("numpy") is None:
        pytest.skip(f"needs {checker} and numpy")
    for name in ("right.py", "wrong.py"):
        shutil.copy(TYPED / name, tmp_path)
    command = [*CHECKERS[checker], "right.py", "wrong.py"]
    said = subprocess.run(command, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True).stdout
    found = {(name, int(line)) for name, line in re.findall(r"(\w+)\.py:(\d+)(?::\d+)?(?: -|:) error", said)}
    assert found == {("wrong", line) for line in marked()}, said
    assert len(marked()) >= 10
