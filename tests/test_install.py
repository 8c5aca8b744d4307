"""Importing a broken installation raises an ImportError of one sentence."""

from __future__ import annotations

import importlib
import os
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

import pygrad

ROOT = Path(__file__).parent.parent


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


def test_an_archive_says_what_to_use_instead(tmp_path):
    shutil.make_archive(str(tmp_path / "packed"), "zip", ROOT, "pygrad")
    code = f"import sys; sys.path.insert(0, {str(tmp_path / 'packed.zip')!r}); import pygrad"
    result = subprocess.run([sys.executable, "-S", "-c", code], capture_output=True, text=True, cwd=tmp_path)
    line = result.stderr.splitlines()[-1]
    assert line.startswith(f"ImportError: pygrad's C extension can't be imported from {tmp_path / 'packed.zip'}/pygrad")
    assert "PyInstaller" in line


@pytest.mark.skipif(not (ROOT / "setup.py").exists(), reason="an installed package is not built here")
def test_a_build_without_compiler_says_in_one_sentence_how_to_get_one(tmp_path):
    for name in ("setup.py", "build_ffi.py", "pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, tmp_path)
    for name in ("csrc", "pygrad"):
        shutil.copytree(ROOT / name, tmp_path / name, ignore=shutil.ignore_patterns("*.so", "__pycache__"))
    variables = {**os.environ, "CC": "/nowhere/gcc"}
    command = [sys.executable, "setup.py", "-q", "build_ext", "--inplace"]
    result = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, env=variables)
    line = result.stderr.splitlines()[-1]
    assert result.returncode == 1 and line.startswith("pygrad is written in C, and no compiler was found")
    assert "apt install gcc" in line and "--only-binary" in line


def test_a_bundler_finds_the_hook(tmp_path):
    (folder,) = importlib.import_module("pygrad._pyinstaller").hook_dirs()
    assert (Path(folder) / "hook-pygrad.py").is_file()
    entry = '[project.entry-points.pyinstaller40]\nhook-dirs = "pygrad._pyinstaller:hook_dirs"\n'
    assert entry in (ROOT / "pyproject.toml").read_text(encoding="utf-8")


@pytest.mark.skipif("BUNDLE" not in os.environ, reason="BUNDLE=1 runs PyInstaller, for a minute")
def test_a_bundle_of_the_neuron_runs(tmp_path):
    pytest.importorskip("PyInstaller")
    (tmp_path / "neuron.py").write_text(
        "from pygrad import Value, explore, value_and_grad, __version__\n"
        "x, w, b = Value(2.0), Value(-3.0), Value(6.5)\n"
        "o = (x * w + b).tanh()\n"
        "o.backward()\n"
        "explore(o, 'neuron.html')\n"
        "print(w.grad, value_and_grad(lambda x: x.tanh())(0.5), __version__)\n"
    )
    command = [sys.executable, "-m", "PyInstaller", "--log-level=ERROR", "neuron.py"]
    subprocess.run(command, cwd=tmp_path, check=True)
    (tmp_path / "elsewhere").mkdir()
    run = subprocess.run(
        [tmp_path / "dist" / "neuron" / "neuron"], cwd=tmp_path / "elsewhere", capture_output=True, text=True
    )
    assert run.stdout.startswith("1.572895465931") and run.stdout.endswith(f" {pygrad.__version__}\n"), run.stderr
    assert (tmp_path / "elsewhere" / "neuron.html").stat().st_size > 10_000


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
