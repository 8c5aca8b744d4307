"""The list of planted faults (planted.txt, which `python tests/planted.py` runs) fits the sources."""

from __future__ import annotations

from pathlib import Path

import planted
import pytest


@pytest.mark.skipif(not (planted.ROOT / "csrc").is_dir(), reason="looks at the sources")
def test_every_planted_fault_has_its_place_and_a_test():
    assert planted.missing_places() == []
    assert len(planted.FAULTS) >= 40
    assert len({fault.name for fault in planted.FAULTS}) == len(planted.FAULTS)
    here = Path(__file__).parent
    for fault in planted.FAULTS:
        assert fault.old != fault.new
        assert any((here / test.partition("::")[0]).exists() for test in fault.tests), fault.name
