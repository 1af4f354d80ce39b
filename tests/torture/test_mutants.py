from collections import Counter
from pathlib import Path

from tests.torture.rows.mutation import QUICK, mutants, place

ROOT = Path(__file__).parents[2]


def test_every_fault_can_be_made() -> None:
    """Its text is there once, and so are the tests that are to notice it."""
    known = mutants()
    assert len(known) >= 60
    assert [name for name, number in Counter(mutant.name for mutant in known).items() if number > 1] == []
    assert {mutant.name for mutant in known}.issuperset(QUICK)
    for mutant in known:
        assert place(mutant, ROOT).is_file(), mutant.name
        assert mutant.replace != mutant.search, mutant.name
        assert mutant.tests, mutant.name
        assert all((ROOT / name).is_file() for name in mutant.tests), mutant.name


def test_faults_are_spread_over_the_rooms() -> None:
    files = {mutant.file for mutant in mutants()}
    for room in (
        "agents/",
        "rltrain/training/",
        "rltrain/runs/",
        "rltrain/evaluation/",
        "rltrain/adapters/",
        "rltrain/cli/",
        "rltrain/wrappers/",
    ):
        assert any(file.startswith(room) for file in files), room
