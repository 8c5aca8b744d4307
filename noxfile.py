"""What CI does, by name: `nox -l` lists it, `nox` runs what a change must pass, `nox -s coverage` measures."""

import platform
import shutil
from pathlib import Path

import nox

nox.needs_version = ">=2024.4.15"
nox.options.sessions = ["lint", "types", "tests", "c"]
nox.options.reuse_existing_virtualenvs = True

LINT = nox.project.load_toml("pyproject.toml")["project"]["optional-dependencies"]["lint"]
PYPY = platform.python_implementation() == "PyPy"


@nox.session
def lint(session: nox.Session) -> None:
    """Ruff: rules and format, by the hooks of pre-commit."""
    session.install("pre-commit", *LINT)
    session.run("pre-commit", "run", "--all-files", "--show-diff-on-failure", "ruff-check")
    session.run("pre-commit", "run", "--all-files", "--show-diff-on-failure", "ruff-format")


@nox.session
def types(session: nox.Session) -> None:
    """Strict mypy over the package, by the hook of pre-commit."""
    session.install("-e", ".[lint,demo]", "pre-commit")
    session.run("pre-commit", "run", "--all-files", "mypy")


@nox.session
def tests(session: nox.Session) -> None:
    """The suite, over both operand layers. On PyPy, which lacks wheels of most, without NumPy and the rest."""
    if PYPY:
        session.install("-e", ".[draw]", "hypothesis", "micrograd==0.1.0", "mpmath", "networkx", "pytest")
    else:
        session.install("-e", ".[test]")
    session.run("pytest", *session.posargs)


@nox.session(venv_backend="none")
def c(session: nox.Session) -> None:
    """The C library: ASan, UBSan, exported symbols, ThreadSanitizer."""
    session.run("make", "-s", "-C", "tests/c", "check", "symbols", "tsan", external=True)


@nox.session
def coverage(session: nox.Session) -> None:
    """Lines of Python and of csrc/ that the suite and the C tests run; a page of each in coverage/."""
    session.install("setuptools>=77", "cffi", "coverage>=7.10", "gcovr", ".[test]")
    session.run("bash", ".ci/coverage", *session.posargs, external=True)


@nox.session
def docs(session: nox.Session) -> None:
    """The site, in docs/_build/html."""
    session.install("-e", ".[docs]")
    session.run("make", "-C", "docs", "html", external=True)


@nox.session(venv_backend="none")
def wheel(session: nox.Session) -> None:
    """The source distribution, a wheel of it for manylinux, and the suite on that wheel."""
    shutil.rmtree("dist", ignore_errors=True)
    session.run("bash", ".ci/wheel", str(Path("dist").absolute()), *session.posargs, external=True)
