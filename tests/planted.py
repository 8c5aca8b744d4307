"""Plants faults in the C library, one after another, and sees whether the tests find them.

python tests/planted.py [WORD ...]: all faults of planted.txt, or those whose names or files have one of the words.
Each is a change of some lines, made in a copy of the tree whose objects are built once, and has tests, one of which
must fail; with nothing changed all of them must pass. Two faults at a time (JOBS=...), each until the first test that
fails. Exit status 1 if one is not found.
python tests/planted.py --places: only whether every fault still has its place.
TESTS=test_compositions.py python tests/planted.py: which of their faults these tests find alone.
"""

from __future__ import annotations

import contextlib
import importlib.util
import os
import queue
import shutil
import subprocess
import sys
import sysconfig
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parent.parent
JOBS = int(os.environ.get("JOBS", "2"))
SECONDS_AT_MOST = 300  # of one test: a fault may make it run for ever


class Fault(NamedTuple):
    """One change: `old`, which is there once, becomes `new`; one of `tests` must fail then."""

    name: str
    file: str
    old: str
    new: str
    tests: tuple[str, ...]  # files of tests/c, or what pytest takes
    flag: str  # what the processor must have for it, by /proc/cpuinfo's name, or nothing


def read_faults(text: str) -> list[Fault]:
    """The faults of planted.txt."""
    faults = []
    file, tests, name, flag = "", (), "", ""
    changes: dict[str, list[str]] = {"- ": [], "+ ": []}
    for line in [*text.splitlines(), ""]:
        if line[:2] in changes:
            changes[line[:2]].append(line[2:])
            continue
        if changes["- "]:
            faults.append(Fault(name, file, "\n".join(changes["- "]), "\n".join(changes["+ "]), tests, flag))
            changes = {"- ": [], "+ ": []}
        if line.startswith("== "):
            where, _, rest = line[3:].partition(": ")
            file, _, flag = where.partition(" on ")
            tests = tuple(rest.split())
        elif line:
            name = line
    return faults


FAULTS = read_faults((ROOT / "tests" / "planted.txt").read_text(encoding="utf-8"))

# ---- Building and running ------------------------------------------------------------------------


class BrokenError(Exception):
    """An unusable fault: it has no place, does not compile, or its tests can't be run."""


class Tree:
    """A copy of the tree with its objects, in which one file after another is changed and put back."""

    def __init__(self, folder: Path) -> None:
        self.root = folder / "tree"
        ignored = shutil.ignore_patterns(".git", "build", "*.so", "__pycache__", "*.egg-info", ".hypothesis")
        shutil.copytree(ROOT, self.root, ignore=ignored)
        self.objects = folder / "objects"
        self.objects.mkdir()
        # With metadata of its own, the package is found here, not where it may be installed.
        metadata = self.root / "pygrad_engine-0.dist-info"
        metadata.mkdir()
        (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: pygrad-engine\nVersion: 0\n")
        spec = importlib.util.spec_from_file_location("build_ffi", self.root / "build_ffi.py")
        assert spec is not None and spec.loader is not None
        build_ffi = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(build_ffi)
        with contextlib.redirect_stdout(None):
            build_ffi.ffibuilder.emit_c_code(str(self.objects / "_pgr.c"))
        options = [o for o in build_ffi.compiler_options()["extra_compile_args"] if not o.startswith("-O")]
        include = [f"-I{sysconfig.get_path('include')}", f"-I{self.root}/csrc"]
        self.compile = ["cc", *options, "-O1", "-fPIC", "-D_CFFI_NO_LIMITED_API", *include]
        self.libraries = [f"-l{name}" for name in build_ffi.libraries()]
        self.sources = [
            self.objects / "_pgr.c",
            *sorted(p for p in (self.root / "csrc").rglob("*.c") if p.parent.name != "wasm"),
        ]
        self.stale = set(self.sources)  # compiled next time
        self.build()

    def run(self, command: list[str]) -> None:
        made = subprocess.run(command, capture_output=True, text=True)
        if made.returncode != 0:
            errors = [line for line in made.stderr.splitlines() if "error" in line]
            raise BrokenError(f"does not compile: {(errors or made.stderr.strip().splitlines())[0]}")

    def build(self) -> None:
        """Compile what is stale, and link the extension."""
        for source in sorted(self.stale):
            self.run([*self.compile, "-MMD", "-c", "-o", str(self.object_of(source)), str(source)])
        target = self.root / "pygrad" / f"_pgr{sysconfig.get_config_var('EXT_SUFFIX')}"
        target.unlink(missing_ok=True)
        self.run(["cc", "-shared", "-o", str(target), *map(str, map(self.object_of, self.sources)), *self.libraries])
        self.stale = set()

    def object_of(self, source: Path) -> Path:
        return self.objects / f"{source.parent.name}_{source.stem}.o"  # names are not unique

    def users_of(self, file: Path) -> set[Path]:
        """The sources that a change in `file` makes stale."""
        return {s for s in self.sources if f"/{file.name}" in self.object_of(s).with_suffix(".d").read_text()}

    def tested(self, test: str) -> str:
        """The outcome of one test: 'passed', or how it failed."""
        if not (self.root / "tests" / test.partition("::")[0]).exists():
            raise BrokenError(f"there is no {test}")
        environment = {**os.environ, "PYTHONPATH": str(self.root), "PYTHONDONTWRITEBYTECODE": "1"}
        if test.startswith("c/"):
            program = self.objects / Path(test).stem
            outside = {self.objects, self.root / "csrc" / "python"}
            library = [self.object_of(s) for s in self.sources if s.parent not in outside]
            source = self.root / "tests" / test
            self.run([*self.compile, "-o", str(program), str(source), *map(str, library), *self.libraries])
            command = [str(program)]
        else:
            # Skip tests of time: with -O1 and two at a time they may fail anyway.
            options = ["-q", "-x", "-p", "no:cacheprovider", "--tb=line", "-k", "not ctrl_c"]
            command = [sys.executable, "-m", "pytest", *options, f"tests/{test}"]
        try:
            ran = subprocess.run(
                command, cwd=self.root, env=environment, capture_output=True, text=True, timeout=SECONDS_AT_MOST
            )
        except subprocess.TimeoutExpired:
            return "hung"
        if ran.returncode > 1:
            raise BrokenError(f"{test} can't be run: {(ran.stdout + ran.stderr).strip().splitlines()[-1]}")
        return {0: "passed", 1: "failed"}.get(ran.returncode, f"crashed ({-ran.returncode})")

    def find(self, fault: Fault) -> str:
        """How a fault is found; '' if it is not."""
        file = self.root / "csrc" / fault.file
        text = file.read_text(encoding="utf-8")
        check_place(fault, text)
        file.write_text(text.replace(fault.old, fault.new), encoding="utf-8")
        users = self.users_of(file)
        try:
            self.stale |= users
            self.build()
            for test in fault.tests:
                if (self.root / "tests" / test.partition("::")[0]).exists():
                    said = self.tested(test)
                    if said != "passed":
                        return f"{test} {said}"
            return ""
        finally:
            file.write_text(text, encoding="utf-8")
            self.stale |= users


def check_place(fault: Fault, text: str) -> None:
    if text.count(fault.old) != 1:
        raise BrokenError(f"csrc/{fault.file} has {text.count(fault.old)} times: {fault.old.strip()!r}")


def is_there(flag: str) -> bool:
    """Whether the processor has it; yes, if nobody can say."""
    listed = Path("/proc/cpuinfo")
    return not flag or not listed.exists() or flag in listed.read_text(encoding="utf-8").split()


def missing_places() -> list[str]:
    """The table's mistakes: faults whose lines are not in their file exactly once."""
    wrong = []
    for fault in FAULTS:
        file = ROOT / "csrc" / fault.file
        try:
            check_place(fault, file.read_text(encoding="utf-8") if file.exists() else "")
        except BrokenError as error:
            wrong.append(f"{fault.name}: {error}")
    return wrong


def main() -> int:
    """Run those that are named, or all."""
    words = sys.argv[1:]
    if words == ["--places"]:
        print(*missing_places(), f"{len(FAULTS)} faults", sep="\n")
        return bool(missing_places())
    named = [f for f in FAULTS if not words or any(word in f.name or word in f.file for word in words)]
    faults = [f for f in named if is_there(f.flag)]
    for fault in named:
        if fault not in faults:
            print(f"{fault.file:12} {fault.name:58} left out: this processor has no {fault.flag}")
    if "TESTS" in os.environ:
        only = os.environ["TESTS"].split()
        faults = [f._replace(tests=tuple(t for t in f.tests if t in only)) for f in faults]
        faults = [f for f in faults if f.tests]
    tests = sorted({test for fault in faults for test in fault.tests})
    begun = time.monotonic()
    trees: queue.Queue[Tree] = queue.Queue()

    def with_tree(what, *args):
        tree = trees.get()
        start = time.monotonic()
        try:
            return what(tree, *args), time.monotonic() - start
        except BrokenError as error:
            return error, time.monotonic() - start
        finally:
            trees.put(tree)

    with tempfile.TemporaryDirectory() as folder, ThreadPoolExecutor(JOBS) as pool:
        for job in range(JOBS):
            (Path(folder) / str(job)).mkdir()
            trees.put(Tree(Path(folder) / str(job)))
        unchanged = [(test, pool.submit(with_tree, Tree.tested, test)) for test in tests]
        results = [(fault, pool.submit(with_tree, Tree.find, fault)) for fault in faults]
        sound = True
        for test, result in unchanged:
            said, took = result.result()
            if said != "passed":
                sound = False
                print(f"with nothing changed: {test} {said}", flush=True)
        print(
            f"{len(tests)} tests pass with nothing changed" if sound else "TESTS FAIL WITH NOTHING CHANGED", flush=True
        )
        found = 0
        for fault, result in results:
            how, took = result.result()
            found += isinstance(how, str) and how != ""
            print(f"{fault.file:12} {fault.name:58} {str(how) or 'NOT FOUND':40} {took:5.1f} s", flush=True)
    print(f"{found} of {len(faults)} faults found in {time.monotonic() - begun:.0f} s")
    return found != len(faults) or not sound


if __name__ == "__main__":
    sys.exit(main())
