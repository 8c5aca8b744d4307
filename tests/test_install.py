"""Importing a broken installation raises an ImportError of one sentence."""

from __future__ import annotations

import importlib
import os
import shutil
import subprocess
import sys
import sysconfig
import zipfile
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


@pytest.fixture
def source(tmp_path):
    """A copy of what the build reads."""
    if not (ROOT / "setup.py").exists():
        pytest.skip("an installed package is not built here")
    folder = tmp_path / "source"
    folder.mkdir()
    for name in ("setup.py", "build_ffi.py", "pyproject.toml", "README.md", "LICENSE", "MANIFEST.in"):
        shutil.copy(ROOT / name, folder)
    for name in ("csrc", "pygrad"):
        ignored = shutil.ignore_patterns("*.so", "_pgr.pyi", "math.pyi", "__pycache__")
        shutil.copytree(ROOT / name, folder / name, ignore=ignored)
    return folder


def built(source, *command, before=(), variables=()):
    """The exit code of setup.py, and the lines that it prints."""
    whole = [*before, sys.executable, "setup.py", "-q", *command]
    environment = {**os.environ, **dict(variables)}
    run = subprocess.run(whole, capture_output=True, text=True, cwd=source, env=environment)
    return run.returncode, (run.stdout + run.stderr).splitlines()


IN_PLACE = ("build_ext", "--inplace")


def test_a_build_without_compiler_says_in_one_sentence_how_to_get_one(source):
    status, lines = built(source, *IN_PLACE, variables={"CC": "/nowhere/gcc"})
    assert status == 1 and lines[-1].startswith("pygrad is written in C, and no compiler was found")
    assert "apt install gcc" in lines[-1] and "--only-binary" in lines[-1]


def test_a_free_threaded_python_is_refused_by_the_build_and_the_import_in_one_sentence(source):
    (source / "sitecustomize.py").write_text(
        "import sysconfig\n"
        "real = sysconfig.get_config_var\n"
        "sysconfig.get_config_var = lambda name: 1 if name == 'Py_GIL_DISABLED' else real(name)\n"
    )
    variables = {"PYTHONPATH": str(source)}
    sentence = "this Python is free-threaded, which pygrad does not support yet: use the ordinary build"
    status, lines = built(source, *IN_PLACE, variables=variables)
    assert status == 1 and len(lines) == 1 and lines[0].startswith(sentence)
    code = "import sitecustomize; import pygrad"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=source)
    assert run.stderr.splitlines()[-1] == f"ImportError: {lines[0]}"


@pytest.fixture
def unwritable(source):
    """A source folder that can't be written, and what a command needs before it, so that this holds for root."""
    before = ()
    if os.name == "nt" or (os.geteuid() == 0 and shutil.which("setpriv") is None):
        pytest.skip("nothing takes away the right to write here")
    if os.geteuid() == 0:
        before = ("setpriv", "--bounding-set=-dac_override", "--inh-caps=-dac_override")
    folders = [source, *(path for path in source.rglob("*") if path.is_dir())]
    for folder in folders:
        folder.chmod(0o555)
    yield source, before
    for folder in folders:
        folder.chmod(0o755)


def test_an_unwritable_source_folder_is_built_elsewhere(unwritable, tmp_path):
    source, before = unwritable
    (tmp_path / "tmp").mkdir()
    # An empty C compiler's work: what is built is the business of other tests, and takes a minute.
    compiler = tmp_path / "cc"
    compiler.write_text('#!/bin/sh\nwhile [ "$1" ]; do [ "$1" = -o ] && : > "$2"; shift; done\n')
    compiler.chmod(0o755)
    variables = {"TMPDIR": str(tmp_path / "tmp"), "CC": str(compiler), "LDSHARED": str(compiler)}
    status, lines = built(source, "bdist_wheel", "-d", str(tmp_path), before=before, variables=variables)
    assert status == 0, lines
    (wheel,) = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
    ours = [path.relative_to(source).as_posix() for path in (source / "pygrad").rglob("*") if path.is_file()]
    assert {*ours, "pygrad/_pgr.pyi", "pygrad/math.pyi"} <= {*names}
    assert any(name.startswith("pygrad/_pgr.") and name.endswith(".so") for name in names)
    assert not [*(tmp_path / "tmp").iterdir()]


@pytest.mark.parametrize("command", [IN_PLACE, ("editable_wheel", "-d", "..")], ids=lambda command: command[0])
def test_an_unwritable_source_folder_refuses_a_build_in_place_in_one_sentence(unwritable, command):
    source, before = unwritable
    status, lines = built(source, *command, before=before)
    sentence = "can't be written, so nothing can be built in it: pip install . works, and -e does not"
    assert (status, lines[-1]) == (1, f"{source} {sentence}")


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
