import json
import os
import time

from tests.torture.frame import Outcome, Row, run, sample, table


def holds(folder):
    assert not any(folder.iterdir())
    return Outcome(True, figures={"bytes": 3.0})


def fails(folder):
    raise AssertionError("one is not above two")


def breaks(folder):
    raise OSError("no space")


def dies(folder):
    os._exit(1)


def hangs(folder):
    time.sleep(60)


def row(**cases):
    return Row(0, "a row", "all", lambda short, rng: iter(cases.items()), seconds=1)


def test_a_case_holds_or_says_why_not(tmp_path):
    told = []
    a_row = row(holds=holds, fails=fails, breaks=breaks, dies=dies, hangs=hangs)
    stored = {x["case"]: x for x in run(a_row, short=True, seed=0, results=tmp_path, report=told.append)}
    assert stored["holds"]["held"]
    assert stored["holds"]["figures"] == {"bytes": 3.0}
    notes = {key: x["note"] for key, x in stored.items() if not x["held"]}
    assert notes == {
        "fails": "one is not above two",
        "breaks": "OSError: no space",
        "dies": "its process died",
        "hangs": "did not end within 1 s",
    }
    assert len(told) == 4


def test_a_stored_case_is_not_run_again(tmp_path):
    run(row(fails=fails), short=True, seed=0, results=tmp_path, report=lambda line: None)
    stored = run(row(fails=holds, holds=holds), short=True, seed=0, results=tmp_path)
    assert [x["held"] for x in stored] == [False, True]
    (file,) = tmp_path.iterdir()
    assert len([json.loads(line) for line in file.read_text().splitlines()]) == 2


def test_of_some_kinds_only_a_sample_is_run_unless_all_are_asked_for(tmp_path):
    cases = {f"{kind} {number}": holds for kind in ("core", "early", "late") for number in range(9)}
    a_row = Row(0, "a row", "all", lambda short, rng: iter(cases.items()), {"^late": 3, "^(early|late)": 2}, jobs=9)

    def keys(seed, whole=False):
        stored = run(a_row, short=False, whole=whole, seed=seed, results=tmp_path / f"{seed} {whole}")
        return [x["case"] for x in stored]

    one, other = keys(0), keys(1)
    assert [sum(key.startswith(kind) for key in one) for kind in ("core", "early", "late")] == [9, 2, 3]
    assert sorted(one) != sorted(other)
    assert sorted(keys(0, whole=True)) == sorted(cases)
    assert sample([*cases], a_row.samples, 0) == [key for key in cases if key in one]


def test_the_table_counts(monkeypatch):
    monkeypatch.setattr("tests.torture.frame.rows", lambda: {0: row()})
    cases = [{"held": True, "figures": {}}, {"held": False, "figures": {}}]
    assert "| 0 | a row | all | 1 of 2 |" in table({0: cases})
