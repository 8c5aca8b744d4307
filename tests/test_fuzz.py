"""What fuzzing has found of interest, and what it starts from, again: see tests/fuzz/fuzz.py."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

pytest.importorskip("numpy")
sys.path.insert(0, str(Path(__file__).with_name("fuzz")))
from targets import CORPUS_FOLDER, TARGETS

FILES = sorted(CORPUS_FOLDER.glob("*/*"))


def test_there_is_a_corpus_for_every_target():
    assert {file.parent.name for file in FILES} == set(TARGETS)


@pytest.mark.parametrize("file", FILES, ids=lambda file: f"{file.parent.name}-{file.name[:12]}")
def test_the_corpus_breaks_nothing(file):
    TARGETS[file.parent.name](file.read_bytes())


@pytest.mark.parametrize("name", TARGETS)
def test_damage_breaks_nothing(name, rng):
    """A few thousand changes without guidance, where there is no fuzzer."""
    files = [file.read_bytes() for file in FILES if file.parent.name == name]
    for _ in range(300 if name == "checkpoint" else 1000):
        data = bytearray(rng.choice(files))
        for _ in range(rng.randrange(1, 6)):
            at = rng.randrange(len(data) + 1)
            change = rng.randrange(4)
            if change == 0:
                data[at:at] = bytes(rng.randrange(256) for _ in range(rng.randrange(1, 5)))
            elif change == 1:
                del data[at : at + rng.randrange(1, 9)]
            elif change == 2 and at < len(data):
                data[at] ^= 1 << rng.randrange(8)
            else:
                other = rng.choice(files)
                data[at : at + 8] = other[at : at + 8]
        TARGETS[name](bytes(data))
