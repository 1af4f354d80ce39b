"""Answers survive kills, cut-off lines and other processes; they can be taken back."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from rltrain.errors import ConfigError, RunError
from rltrain.preferences.agreement import agreement, agreement_with
from rltrain.preferences.answers import Answer, Answers

WRITE = """
import sys
from pathlib import Path
from rltrain.preferences.answers import Answers
answers, number = Answers(Path(sys.argv[1])), 0
while True:
    answers.add(f"0001-{number:05d}", "left", sys.argv[2])
    print(number, flush=True)
    number += 1
"""


def said(*choices: tuple[str, str, str]) -> list[Answer]:
    return [Answer(pair, choice, labeller) for pair, labeller, choice in choices]


def test_the_last_answer_of_each_labeller_stands_and_can_be_taken_back(tmp_path: Path) -> None:
    answers = Answers(tmp_path / "answers.jsonl")
    assert answers.current() == []
    for pair, choice, labeller in [
        ("1", "left", "a"),
        ("2", "right", "a"),
        ("1", "equal", "a"),
        ("2", "skip", "b"),
        ("2", "undo", "a"),
    ]:
        answers.add(pair, choice, labeller, seconds=1.5)
    assert [(each.pair, each.choice, each.labeller) for each in answers.current()] == [
        ("1", "equal", "a"),
        ("2", "skip", "b"),
    ]
    assert len((tmp_path / "answers.jsonl").read_text().splitlines()) == 5
    assert all(each.seconds == 1.5 for each in answers.current())


def test_no_confirmed_answer_is_lost_by_kills_in_the_middle(tmp_path: Path) -> None:
    file = tmp_path / "answers.jsonl"
    writers = [
        subprocess.Popen([sys.executable, "-c", WRITE, str(file), name], stdout=subprocess.PIPE, text=True)
        for name in "ab"
    ]
    for writer in writers:
        assert writer.stdout is not None
        assert writer.stdout.readline()
    time.sleep(0.1)
    confirmed = {}
    for name, writer in zip("ab", writers, strict=True):
        writer.send_signal(signal.SIGKILL)
        assert writer.stdout is not None
        confirmed[name] = 1 + int(writer.stdout.read().split()[-1] or 0)
        writer.wait()
    kept = Answers(file).current()
    for name, count in confirmed.items():
        assert sum(each.labeller == name for each in kept) in (count, count + 1)
    assert Answers(file).damaged <= 2


def test_lines_that_are_cut_off_or_changed_do_not_count_and_spoil_no_others(tmp_path: Path) -> None:
    file = tmp_path / "answers.jsonl"
    answers = Answers(file)
    for number in range(3):
        answers.add(str(number), "left", "a")
    content = file.read_bytes()
    lines = content.splitlines(keepends=True)
    file.write_bytes(lines[0] + lines[1].replace(b"left", b"right") + lines[2][:20])
    answers.add("3", "right", "a")
    assert [(each.pair, each.choice) for each in answers.current()] == [("0", "left"), ("3", "right")]
    assert answers.damaged == 2
    file.write_bytes(b'[1]\n"x"\n{"seal": 1}\n' + b"[" * 100_000 + b"\n" + content)
    assert len(answers.current()) == 3


def test_what_cannot_be_an_answer_is_refused(tmp_path: Path) -> None:
    answers = Answers(tmp_path / "answers.jsonl")
    with pytest.raises(ConfigError, match="no answer 'up'"):
        answers.add("1", "up", "a")
    for name in ("", "a\nb", "x" * 81):
        with pytest.raises(ConfigError, match="no name"):
            answers.add("1", "left", name)
    os.symlink(tmp_path / "elsewhere", tmp_path / "answers.jsonl")
    with pytest.raises(RunError, match="symbolic link"):
        answers.add("1", "left", "a")
    assert not (tmp_path / "elsewhere").exists()


def test_the_checksum_is_that_of_what_stands(tmp_path: Path) -> None:
    first, second = Answers(tmp_path / "a"), Answers(tmp_path / "b")
    first.add("1", "left", "a")
    first.add("2", "right", "a")
    second.add("2", "left", "a")
    second.add("2", "right", "a")
    assert first.checksum() != second.checksum()
    second.add("1", "left", "a")
    assert first.checksum() == second.checksum()


def test_agreement_is_krippendorffs() -> None:
    # Two labellers, ten pairs, by hand: they differ on two. n = 20; left 11, right 9.
    both = [("left", "left")] * 5 + [("right", "right")] * 3 + [("left", "right"), ("right", "left")]
    both[8] = ("left", "right")
    choices = [(str(i), who, choice) for i, pair in enumerate(both) for who, choice in zip("ab", pair, strict=True)]
    found = agreement(said(*choices, ("10", "a", "left"), ("0", "c", "skip")))
    lefts = sum(choice == "left" for _, _, choice in choices)
    expected = 1 - (20 - 1) * (2 * 2) / (2 * lefts * (20 - lefts))
    assert (found.pairs, found.share) == (10, 0.8)
    assert found.alpha == pytest.approx(expected)
    assert agreement(said(("0", "a", "left"), ("0", "b", "left"))).alpha is None
    assert agreement(said(("0", "a", "left"))).share is None


def test_labellers_are_compared_with_the_model() -> None:
    answers = said(("0", "a", "left"), ("1", "a", "right"), ("1", "b", "left"), ("0", "b", "equal"))
    assert agreement_with(answers, {"0": 0.9, "1": 0.2}) == {"a": (2, 1.0), "b": (1, 0.0)}
