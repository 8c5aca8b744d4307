"""Importing a broken installation raises an ImportError of one sentence."""

from __future__ import annotations

import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

import pygrad


def imported(folder, module):
    """The last line that importing pygrad from a folder prints."""
    path = [str(folder), sysconfig.get_path("purelib"), sysconfig.get_path("platlib")]
    code = f"import sys; sys.path[:0] = {path}; import {module}; print(pygrad.__file__)"
    # Without site, whose .pth files may lead to an editable installation of this package.
    result = subprocess.run([sys.executable, "-S", "-c", code], capture_output=True, text=True, cwd=folder)
    return (result.stdout + result.stderr).splitlines()[-1]


@pytest.fixture
def folder(tmp_path):
    """A folder of packages in which pygrad is one."""
    (tmp_path / "pygrad").symlink_to(Path(pygrad.__file__).parent)
    return tmp_path


def test_beside_other_distributions_it_works(folder):
    (folder / "pygrad_engine-0.1.0.dist-info").mkdir()
    (folder / "other-1.0.dist-info").mkdir()
    assert imported(folder, "pygrad") == str(folder / "pygrad" / "__init__.py")


@pytest.mark.parametrize("module", ["pygrad", "pygrad.engine", "pygrad.nn"])
def test_beside_a_distribution_of_the_same_folder_it_says_so(folder, module):
    (folder / "pygrad-0.1.0.dist-info").mkdir()
    assert imported(folder, module) == (
        "ImportError: another distribution, named pygrad, is installed beside pygrad-engine, and has files in the same "
        "folder: pip uninstall pygrad pygrad-engine, then pip install pygrad-engine"
    )


def test_after_the_other_distribution_has_overwritten_files_it_says_so(tmp_path):
    (tmp_path / "pygrad").mkdir()
    for path in Path(pygrad.__file__).parent.iterdir():
        (tmp_path / "pygrad" / path.name).symlink_to(path)
    (tmp_path / "pygrad" / "__init__.py").unlink()
    (tmp_path / "pygrad" / "__init__.py").write_text("another = 1\n")
    (tmp_path / "pygrad-0.1.0.dist-info").mkdir()
    assert "another distribution" in imported(tmp_path, "pygrad.engine")


def test_a_folder_that_is_not_built_is_named(tmp_path):
    (tmp_path / "pygrad").mkdir()
    for path in Path(pygrad.__file__).parent.iterdir():
        if not path.name.startswith("_pgr"):
            (tmp_path / "pygrad" / path.name).symlink_to(path)
    line = imported(tmp_path, "pygrad")
    assert line.startswith(
        f"ImportError: pygrad's C extension is not built in {tmp_path / 'pygrad'}: leave this folder"
    )
    assert line.endswith("or build it here with pip install -e .")
