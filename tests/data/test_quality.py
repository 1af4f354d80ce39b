"""Planted faults are found and named; splits divide no episode and nobody; a deleted person is nowhere any more."""

from __future__ import annotations

import json
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from gymnasium import spaces
from made import ACTIONS, OBS, columns_of, finals_of, make

from rltrain.cli import main
from rltrain.data.card import DatasetCard, read_card
from rltrain.data.check import FINDINGS, check_dataset, check_splits
from rltrain.data.dataset import Dataset
from rltrain.data.delete import delete_episodes
from rltrain.data.layout import CARD
from rltrain.data.learnable import check_learnable
from rltrain.data.personal import pseudonym
from rltrain.data.split import assign, split_dataset
from rltrain.data.writer import DatasetWriter
from rltrain.errors import ConfigError, DatasetError
from rltrain.storage.making import making

LENGTHS = [3, 5, 2, 4]
KEY = b"0123456789abcdef0123"


def found(dataset: Dataset, **options: Any) -> dict[str, str]:
    return {each.name: each.text for each in check_dataset(dataset, **options)}


def planted(path: Path, change: Any = None, **options: Any) -> Dataset:
    columns = columns_of(LENGTHS)
    if change is not None:
        change(columns)
    return make(path, LENGTHS, columns=columns, **options)


def test_a_sound_dataset_has_no_finding(tmp_path: Path) -> None:
    assert found(planted(tmp_path / "set")) == {}


def _set(name: str, where: Any, value: Any) -> Any:
    def change(columns: dict[str, np.ndarray]) -> None:
        columns[name][where] = value

    return change


def _twice(columns: dict[str, np.ndarray]) -> None:
    for column in columns.values():
        column[8:10] = column[0:2]  # the third episode, of two steps
    columns["terminated"][8:10] = False, True


@pytest.mark.parametrize(
    ("change", "name", "text"),
    [
        (_set("obs", (4, 1), np.nan), "not-finite", "'obs' is NaN or infinite in 1 steps, first in episode 1, step 1"),
        (
            _set("reward", slice(8, 10), np.inf),
            "not-finite",
            "'reward' is NaN or infinite in 2 steps, first in episode 2",
        ),
        (_set("obs", (13, 0), 11.0), "outside-space", "'obs' is outside"),
        (_set("action", 5, 7), "outside-space", "'action' is outside Discrete(2) in 1 steps"),
        (_set("action", slice(None), 1), "missing-action", "nobody takes 0 of 'action'"),
        (_set("terminated", slice(None), False), "unlabelled-end", "2 of 4 episodes"),
        (_set("terminated", 0, True), "end-inside", "in 1 steps, first in episode 0, step 0"),
        (_set("obs", (slice(None), 2), 0.5), "constant-column", "'obs' never changes in 1 of 3 numbers, first 2"),
        (_set("reward", slice(None), 1.0), "constant-column", "'reward' never changes"),
    ],
)
def test_a_planted_fault_is_named(tmp_path: Path, change: Any, name: str, text: str) -> None:
    findings = found(planted(tmp_path / "set", change))
    assert text in findings[name]
    assert name in FINDINGS


def test_faults_of_several_columns_are_named(tmp_path: Path) -> None:
    other = spaces.Box(-1.0, 1.0, (4,), np.float32)
    shape = found(planted(tmp_path / "1", observation_space=other))
    assert "'obs' has the shape (3,), and its space (4,)" in shape["wrong-shape"]
    assert "is float32" in found(planted(tmp_path / "2", observation_space=spaces.MultiBinary(3)))["wrong-shape"]
    low, high = -0.5, 0.5
    rewards = columns_of(LENGTHS)["reward"]
    outside = int(((rewards < low) | (rewards > high)).sum())
    assert f"in {outside} steps" in found(planted(tmp_path / "3"), reward_range=(low, high))["reward-range"]
    assert "reward-range" in found(planted(tmp_path / "4", facts={"reward_range": [low, high]}))
    assert "of 2 truncated episodes" in found(planted(tmp_path / "5", has_final=False))["unknown-final"]


def test_equal_episodes_are_found(tmp_path: Path) -> None:
    columns = columns_of([2, 3, 2, 2])
    for column in columns.values():
        column[5:7] = column[0:2]
    dataset = make(tmp_path / "set", [2, 3, 2, 2], columns=columns, seeds=np.arange(4))
    text = found(dataset)["duplicate-episode"]
    assert "1 episodes are there before, first 2, which is 0 again" in text
    for seed in range(10):  # and are never divided
        splits = assign(dataset, {"a": 0.5, "b": 0.5}, seed=seed)
        assert splits[0] == splits[2]


def test_masks_are_held_to_the_actions(tmp_path: Path) -> None:
    columns = columns_of(LENGTHS)
    mask = np.ones((14, 2), np.int8)
    mask[np.arange(14), 1 - columns["action"]] = 0
    mask[6] = 1 - mask[6]  # forbids what was done
    mask[9] = 0  # no choice: any action will do
    space = spaces.Dict({"observation": OBS, "action_mask": spaces.MultiBinary(2)})
    columns = {"obs.observation": columns.pop("obs"), "obs.action_mask": mask, **columns}
    with DatasetWriter(tmp_path / "set", space, ACTIONS) as writer:
        finals = {"obs.observation": finals_of(4)["obs"], "obs.action_mask": np.ones((4, 2), np.int8)}
        writer.add(columns, LENGTHS, finals)
    text = found(Dataset.open(tmp_path / "set"))["forbidden-action"]
    assert "in 1 steps, first in episode 1, step 3" in text


def test_uneven_slices_are_found(tmp_path: Path) -> None:
    dataset = make(tmp_path / "set", [1] * 30, groups={"site": ["north"] * 29 + ["south"]})
    assert "'north' has 29 episodes and 'south' 1" in found(dataset)["imbalance"]


def test_the_first_fault_is_found_across_parts(tmp_path: Path) -> None:
    dataset = planted(tmp_path / "set", _set("obs", (12, 0), np.nan), part_bytes=50)
    assert len(dataset.parts) > 1
    assert "first in episode 3, step 2" in found(dataset)["not-finite"]


def people(path: Path, seed: int = 0) -> Dataset:
    rng = np.random.default_rng(seed)
    users = [f"user{number}" for number in rng.integers(20, size=100)]
    return make(path, rng.integers(1, 5, size=100).tolist(), groups={"user": users}, seed=seed, seeds=np.arange(100))


@pytest.mark.parametrize("by", [None, "user"])
def test_splits_hold_every_episode_once(tmp_path: Path, by: str | None) -> None:
    dataset = people(tmp_path / "set")
    shares = {"train": 8.0, "val": 1.0, "test": 1.0}
    splits = split_dataset(dataset, tmp_path / "splits", shares, by=by, seed=3)
    seeds = [sorted(split.episodes.seed.tolist()) for split in splits.values()]
    assert sorted(chain(*seeds)) == list(range(100))
    sizes = [len(each) for each in seeds]
    assert sizes == [80, 10, 10] if by is None else abs(sizes[0] - 80) <= 6
    assert all(split.ancestors == [dataset.checksum] for split in splits.values())
    findings = check_splits(list(splits.values()))
    assert [each.name for each in findings] == ([] if by else ["leak"] * 3)  # the same people
    again = assign(dataset, shares, by=by, seed=3)
    assert np.array_equal(np.flatnonzero(again == 0), np.array(seeds[0]))
    assert not np.array_equal(again, assign(dataset, shares, by=by, seed=4))


def test_a_planted_leak_is_found(tmp_path: Path) -> None:
    a, b = make(tmp_path / "a", [2, 3], seed=1), make(tmp_path / "b", [2, 4], seed=2)
    assert check_splits([a, b]) == []
    with DatasetWriter(tmp_path / "c", OBS, ACTIONS) as writer:
        for number, source in ((0, b), (1, a)):
            episode = source.episode(number)
            writer.add(
                {n: x[: len(episode["reward"])] for n, x in episode.items()},
                [len(episode["reward"])],
                {"obs": episode["obs"][-1:]},
            )
    leaks = check_splits([a, Dataset.open(tmp_path / "c")])
    assert "1 episodes are in" in leaks[0].text
    assert leaks[0].is_error


def test_splits_that_cannot_be_are_refused(tmp_path: Path) -> None:
    dataset = make(tmp_path / "set", groups={"user": ["a", "a", "b", "b"]})
    for shares, by, what in (
        ({"a": 1.0, "b": 1.0, "c": 1.0}, "user", "The split 'c' would be empty: there are 2 values"),
        ({"a": 1.0, "b": 1.0}, "usr", "no group column 'usr'"),
        ({"a": 0.0, "b": 1.0}, None, "has no share"),
        ({"../a": 1.0, "b": 1.0}, None, "cannot be named"),
    ):
        with pytest.raises(ConfigError, match=what):
            split_dataset(dataset, tmp_path / "out", shares, by=by)
    assert [path.name for path in tmp_path.iterdir()] == ["set"]


def everything_in(folder: Path) -> bytes:
    return b"".join(path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file())


@pytest.mark.parametrize("key", [None, KEY])
def test_a_deleted_person_is_nowhere_any_more(tmp_path: Path, key: bytes | None) -> None:
    names = ["quirin", "bob", "quirin", "eve"]
    values = names if key is None else [pseudonym(name, key) for name in names]
    personal = [{"column": "user", "treatment": "keyed hash"}] if key else []
    dataset = make(tmp_path / "set", LENGTHS, groups={"user": values}, seeds=np.arange(4), facts={"personal": personal})
    theirs = dataset.episode(0)["obs"][0].tobytes()
    kept = {name: column.copy() for name, column in dataset.episode(1).items()}
    checksum = dataset.checksum
    assert theirs in everything_in(tmp_path)
    new = delete_episodes(dataset, "user", "quirin", key=key)
    assert new.episodes.seed.tolist() == [1, 3]
    assert new.checksum != checksum
    assert new.ancestors == [checksum]
    for name, column in kept.items():
        assert np.array_equal(new.episode(0)[name], column)
    left = everything_in(tmp_path)
    assert theirs not in left
    assert values[0].encode() not in left
    assert b"quirin" not in left
    assert [path.name for path in tmp_path.iterdir()] == ["set"]
    assert read_card(new.path).deletions == [{"column": "user", "episodes": 2, "from_version": checksum}]
    new.verify()


def test_a_person_who_acted_is_deleted_by_policy(tmp_path: Path) -> None:
    with DatasetWriter(tmp_path / "set", OBS, ACTIONS, policies=[{"name": n} for n in ("ann", "bot", "eve")]) as writer:
        writer.add(columns_of(LENGTHS), LENGTHS, finals_of(4), policies=np.array([0, 1, 2, 2]))
    new = delete_episodes(Dataset.open(tmp_path / "set"), "policy", "bot")
    assert [each["name"] for each in new.policies] == ["ann", "eve"]
    assert new.episodes.policy.tolist() == [0, 1, 1]
    assert b"bot" not in everything_in(tmp_path)


def test_what_cannot_be_deleted_is_said(tmp_path: Path) -> None:
    facts = {"personal": [{"column": "user", "treatment": "keyed hash"}]}
    dataset = make(tmp_path / "set", groups={"user": ["x"] * 4, "site": ["n", "s", "n", "n"]}, facts=facts)
    with pytest.raises(ConfigError, match="no group column 'usr'"):
        delete_episodes(dataset, "usr", "ann")
    with pytest.raises(ConfigError, match="No episode") as error:
        delete_episodes(dataset, "user", "ann")
    assert "key" in error.value.fix
    with pytest.raises(DatasetError, match="nothing would be left"):
        delete_episodes(dataset, "user", "x")
    assert Dataset.open(tmp_path / "set", verify=True).checksum == dataset.checksum


def test_a_card_says_what_it_lacks(tmp_path: Path) -> None:
    dataset = make(tmp_path / "set")
    assert "license" in (dataset.path / CARD).read_text().partition("pretty_name")[0]  # as a comment
    assert set(read_card(dataset.path).missing()) == {
        *("license", "source_data", "consent", "personal_and_sensitive_information", "bias_risks_and_limitations")
    }
    for text, what in (
        ("licence: x", "licence"),
        ("license: [a", "cannot be read"),
        ("!!python/object:os.system {}", "cannot be read"),
    ):
        (dataset.path / CARD).write_text(text)
        with pytest.raises(DatasetError, match=what):
            read_card(dataset.path)
    card = DatasetCard(license="cc0-1.0", source_data="Here.", pretty_name="A set")
    readme = card.as_readme("set")
    assert readme.startswith("---\npretty_name: A set\nlicense: cc0-1.0\n")
    assert "## Source data\n\nHere.\n" in readme


def test_the_verbs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = str(people(tmp_path / "set").path)
    assert main(["data", "check", path]) == 0
    assert "no findings" in capsys.readouterr().out
    assert main(["data", "check", path, "--reward-range", "0", "1", "--json"]) == 2
    report = json.loads(capsys.readouterr().out)
    assert [each["name"] for each in report["datasets"][path]] == ["reward-range"]
    assert main(["data", "split", path, "train=3", "val=1", "--by", "user"]) == 0
    assert f"{path}-splits/train: " in capsys.readouterr().out
    assert main(["data", "check", f"{path}-splits/train", f"{path}-splits/val"]) == 0
    assert main(["data", "check", f"{path}-splits/train", path]) == 2
    assert "between them: error: leak:" in capsys.readouterr().out
    assert main(["data", "delete", path, "--where", "user=user3", "--runs", str(tmp_path)]) == 0
    output = capsys.readouterr()
    assert "episodes deleted" in output.out
    assert "was made from it: delete there too" in output.err
    for wrong, what in (
        (["data", "split", path, "train"], "'train' is no split"),
        (["data", "split", path, "a=1", "a=2"], "given twice"),
        (["data", "delete", path], "not said what to delete"),
        (["data", "delete", path, "--where", "user=nobody"], "No episode"),
        (["data", "delete", path, "--where", "user=user1", "--key-file", str(tmp_path / "no")], "cannot be read"),
    ):
        assert main(wrong) == 2
        assert what in capsys.readouterr().err


@pytest.mark.parametrize("which", [".new-", ".removed-"])
def test_a_deletion_that_was_killed_is_put_right_by_the_next(which: str, tmp_path: Path) -> None:
    dataset = people(tmp_path / "set")
    checksum = dataset.checksum
    if which == ".new-":  # before the old version was moved
        (tmp_path / ".new-set-0badcafe").mkdir()
        (tmp_path / ".new-set-0badcafe" / "rest").write_bytes(b"x")
    else:
        dataset.path.rename(tmp_path / ".removed-set-0badcafe")
        with pytest.raises(DatasetError, match="There is no dataset") as error:
            Dataset.open(tmp_path / "set")
        assert "data delete" in error.value.fix
    assert main(["data", "delete", str(tmp_path / "set"), "--where", "user=user3", "--runs", str(tmp_path)]) == 0
    assert Dataset.open(tmp_path / "set", verify=True).ancestors == [checksum]
    assert [path.name for path in tmp_path.iterdir()] == ["set"]


def test_a_split_removes_what_a_killed_one_left_and_not_what_another_is_writing(tmp_path: Path) -> None:
    dataset = make(tmp_path / "set", [3] * 6)
    left, shares = tmp_path / ".writing-out-0badcafe", {"a": 1.0, "b": 1.0}
    left.mkdir()
    with making(tmp_path / "out") as other:
        split_dataset(dataset, tmp_path / "out", shares)
        assert other.is_dir()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out", "set"]


@pytest.mark.parametrize(
    ("column", "value", "what"),
    [
        ("obs", np.nan, r"'obs' in .* is nan in episode 1, step 2"),
        ("reward", -np.inf, r"'reward' in .* is -inf in episode 1, step 2"),
        ("obs", 3e38, r"'obs' in .* is 3e\+38 in episode 1, step 2"),
        ("action", 7, r"'action' in .* is 7 in episode 1, step 2, which Discrete\(2\) does not have"),
    ],
)
def test_what_nobody_can_learn_from_is_refused(column: str, value: float, what: str, tmp_path: Path) -> None:
    columns = columns_of(LENGTHS)
    columns[column][LENGTHS[0] + 2, ...] = value
    dataset = make(tmp_path / "set", LENGTHS, columns=columns)
    with pytest.raises(DatasetError, match=what):
        check_learnable(dataset)


def test_a_last_observation_that_nobody_can_learn_from_is_refused(tmp_path: Path) -> None:
    finals = finals_of(4)
    finals["obs"][2] = np.nan
    for known in (False, True):
        with DatasetWriter(tmp_path / str(known), OBS, ACTIONS) as writer:
            writer.add(columns_of(LENGTHS), LENGTHS, finals, has_final=known)
    check_learnable(Dataset.open(tmp_path / "False"))  # nobody reads what is not known
    with pytest.raises(DatasetError, match=f"'obs' in .* is nan in episode 2, step {LENGTHS[2]}"):
        check_learnable(Dataset.open(tmp_path / "True"))
