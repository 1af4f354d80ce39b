"""Minari's datasets and tables come in and go out as they are, to the bit; what is hostile in them is refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from gymnasium import spaces
from made import make

from rltrain.cli import main
from rltrain.data.card import REQUIRED, DatasetCard, write_card
from rltrain.data.check import check_dataset
from rltrain.data.dataset import Dataset
from rltrain.data.layout import CARD
from rltrain.data.personal import pseudonym
from rltrain.errors import ConfigError, DatasetError

FULL = DatasetCard(
    license="cc0-1.0",
    source_data="Made up.",
    consent="Nobody's.",
    personal_and_sensitive_information="None.",
    bias_risks_and_limitations="Small.",
)
EVERY_SPACE = spaces.Dict(
    {
        "box": spaces.Box(-1, 1, (2, 3), np.float64),
        "picture": spaces.Box(0, 255, (40, 40, 3), np.uint8),
        "small": spaces.Box(0, 9, (4,), np.int16),
        "choice": spaces.Discrete(4, start=-1),
        "choices": spaces.MultiDiscrete([3, 5]),
        "switches": spaces.MultiBinary([2, 2]),
        "inner": spaces.Dict({"pair": spaces.Tuple([spaces.Discrete(2), spaces.Text(8)])}),
    }
)


def assert_same(a: Any, b: Any) -> None:
    """Equal to the bit, types included, in trees of any form."""
    assert type(a) is type(b)
    if isinstance(a, dict):
        assert a.keys() == b.keys()
        for key in a:
            assert_same(a[key], b[key])
    elif isinstance(a, tuple):
        assert len(a) == len(b)
        for one, other in zip(a, b, strict=True):
            assert_same(one, other)
    elif isinstance(a, np.ndarray):
        assert (a.dtype, a.shape, a.tobytes()) == (b.dtype, b.shape, b.tobytes())
    else:
        assert a == b


def stacked(space: spaces.Space, values: list[Any]) -> Any:
    if isinstance(space, spaces.Dict):
        return {key: stacked(part, [value[key] for value in values]) for key, part in space.spaces.items()}
    if isinstance(space, spaces.Tuple):
        return tuple(stacked(part, [value[i] for value in values]) for i, part in enumerate(space.spaces))
    return values if isinstance(space, spaces.Text) else np.array(values, space.dtype)


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path / "minari"))
    (tmp_path / "minari").mkdir()
    return tmp_path / "minari"


def test_a_dataset_goes_out_to_a_folder_named_from_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("minari")
    monkeypatch.chdir(tmp_path)
    dataset = make(tmp_path / "set")
    write_card(dataset.path / "card.yaml", DatasetCard(**dict.fromkeys(REQUIRED, "told")))
    assert main(["data", "export", "set", "--to", "minari", "--out", "root", "--id", "set-v0"]) == 0
    assert sorted(path.name for path in (tmp_path / "root").iterdir()) == ["set-v0"]


@pytest.mark.parametrize("data_format", ["hdf5", "arrow"])
@pytest.mark.filterwarnings("ignore")
def test_minari_and_back_is_equal_to_the_bit(tmp_path: Path, place: Path, data_format: str) -> None:
    minari = pytest.importorskip("minari")
    from minari.data_collector import EpisodeBuffer

    action_space = spaces.Tuple([spaces.Discrete(3), spaces.Box(-1, 1, (2,), np.float32)])
    EVERY_SPACE.seed(0)
    action_space.seed(0)
    rng, buffers = np.random.default_rng(0), []
    for number, length in enumerate((3, 1, 4)):
        infos = {"speed": rng.random(length + 1), "inner": {"flag": rng.random(length + 1) < 0.5}}
        buffers.append(
            EpisodeBuffer(
                id=number,
                seed=None if number == 1 else 100 + number,
                observations=stacked(EVERY_SPACE, [EVERY_SPACE.sample() for _ in range(length + 1)]),
                actions=stacked(action_space, [action_space.sample() for _ in range(length)]),
                rewards=rng.random(length).tolist(),
                terminations=[False] * (length - 1) + [number != 2],
                truncations=[False] * (length - 1) + [number == 2],
                infos=infos if data_format == "hdf5" else None,
            )
        )
    first = minari.create_dataset_from_buffers(
        "every/space-v0",
        buffers,
        observation_space=EVERY_SPACE,
        action_space=action_space,
        data_format=data_format,
        jpeg_encoding=False,
    )
    out = tmp_path / "ours"
    assert main(["data", "import", str(place / "every" / "space-v0"), "--out", str(out)]) == 0
    ours = Dataset.open(out, verify=True)
    assert ours.episodes.seed.tolist() == [100, -1, 102]
    write_card(out / CARD, FULL)
    command = ["data", "export", str(out), "--to", "minari", "--out", str(place), "--id", "every/again-v0"]
    assert main([*command, "--data-format", data_format]) == 0
    second = minari.load_dataset("every/again-v0")
    assert second.observation_space == first.observation_space
    assert second.action_space == first.action_space
    for a, b in zip(first.iterate_episodes(), second.iterate_episodes(), strict=True):
        for name in ("observations", "actions", "rewards", "terminations", "truncations"):
            assert_same(getattr(a, name), getattr(b, name))
        if data_format == "hdf5":
            assert_same(a.infos, b.infos)
    for a, b in zip(
        first.storage.get_episode_metadata(range(3)), second.storage.get_episode_metadata(range(3)), strict=True
    ):
        assert a.get("seed") == b.get("seed")
    assert main(["data", "import", "every/again-v0", "--out", str(tmp_path / "twice")]) == 0
    twice = Dataset.open(tmp_path / "twice")
    assert [part["sha256"] for part in twice.parts] == [part["sha256"] for part in ours.parts]
    assert (place / "every" / "again-v0" / "README.md").read_text().startswith("---\n")


@pytest.mark.filterwarnings("ignore")
def test_a_recording_is_opened_by_minari_which_plays_it_again(tmp_path: Path, place: Path) -> None:
    minari = pytest.importorskip("minari")
    assert main(["record", "CartPole-v1", "--episodes", "3", "--out", str(tmp_path / "set")]) == 0
    export = [
        "data",
        "export",
        str(tmp_path / "set"),
        "--to",
        "minari",
        "--out",
        str(place),
        "--id",
        "cartpole/random-v0",
    ]
    assert main(export) == 4  # without a card
    write_card(tmp_path / "set" / CARD, FULL)
    assert main(export) == 0
    loaded, ours = minari.load_dataset("cartpole/random-v0"), Dataset.open(tmp_path / "set")
    assert (loaded.total_episodes, loaded.total_steps) == (3, len(ours))
    env = loaded.recover_environment()
    for episode, metadata in zip(loaded.iterate_episodes(), loaded.storage.get_episode_metadata(range(3)), strict=True):
        obs, _ = env.reset(seed=metadata["seed"])
        for t, action in enumerate(episode.actions):
            assert np.array_equal(obs, episode.observations[t])
            obs, *_ = env.step(action)
        assert np.array_equal(obs, episode.observations[-1])


@pytest.mark.filterwarnings("ignore")
def test_hostile_minari_files_are_refused(tmp_path: Path, place: Path) -> None:
    pytest.importorskip("minari")
    import h5py

    from rltrain.data.minari import export_minari, import_minari

    write_card(make(tmp_path / "set").path / CARD, FULL)
    data = export_minari(Dataset.open(tmp_path / "set"), place, "a-v0")
    metadata = json.loads((data / "metadata.json").read_text())

    def refused(what: str) -> None:
        with pytest.raises(DatasetError, match=what) as error:
            import_minari(data, tmp_path / "out")
        assert error.value.fix
        assert "\n" not in error.value.cause
        assert not (tmp_path / "out").exists()

    code = {"id": "Code-v0", "entry_point": "os:system", "kwargs": {}}
    without = {key: value for key, value in metadata.items() if key != "observation_space"}
    for changed, what in (
        ({**without, "env_spec": json.dumps(code)}, "does not describe the observation_space"),
        ({**metadata, "observation_space": '{"type": "os.system"}'}, "deserialize_space"),
        ({**metadata, "action_space": '{"type": "Box", "shape": [1000000, 1000000], "dtype": "f4"}'}, "shape"),
        ({"data_format": "hdf5"}, "says nothing"),
    ):
        (data / "metadata.json").write_text(json.dumps(changed))
        refused(what)
    (data / "metadata.json").write_text(json.dumps({**metadata, "total_episodes": 9}))
    refused("cannot be read")
    (data / "metadata.json").write_text(json.dumps(metadata))
    with h5py.File(data / "main_data.hdf5", "a") as file:
        rewards = file["episode_0/rewards"][:]
        del file["episode_0/rewards"]
        file["episode_0/rewards"] = h5py.ExternalLink("elsewhere.hdf5", "/x")
    refused("a link to somewhere else")
    with h5py.File(data / "main_data.hdf5", "a") as file:
        del file["episode_0/rewards"]
        file["episode_0"].create_dataset("rewards", shape=(2**40,), dtype="f8", chunks=(1024,))
    refused("has 8,796,093,022,208 bytes")
    with h5py.File(data / "main_data.hdf5", "a") as file:
        del file["episode_0/rewards"]
        file["episode_0/rewards"] = rewards[:-1]
    refused("steps and")
    (data / "main_data.hdf5").write_bytes(b"nothing")
    refused("be read: Unable")
    (data / "main_data.hdf5").unlink()
    (data / "main_data.hdf5").symlink_to(tmp_path / "set" / CARD)
    refused("symbolic link")
    with pytest.raises(ConfigError, match="no id"):
        export_minari(Dataset.open(tmp_path / "set"), place, "../../x")


MAPPING = """
episode: session
observation: [temperature, load]
action: choice
actions: [wait, heat, cool]
reward: gain
terminated: done
groups: [customer, site]
policy: operator
last_step: truncated
personal: {customer: hash, email: drop, load: {noise: 0.5}}
reward_range: [0, 10]
"""
ROWS = [
    ("s1", "kunde7", "north", "ed", 20.5, 0.1, "wait", 1, "false", "a@x"),
    ("s2", "kunde8", "south", "ed", 18.0, 0.2, "heat", 2, "false", "b@x"),
    ("s1", "kunde7", "north", "ed", 21.5, 0.3, "cool", 3, "true", "a@x"),
    ("s2", "kunde8", "south", "ed", 19.0, 0.4, "heat", 4, "false", "b@x"),
    ("s3", "kunde7", "north", "flo", 22.0, 0.5, "wait", 5, "true", "a@x"),
]
HEADER = ("session", "customer", "site", "operator", "temperature", "load", "choice", "gain", "done", "email")


def table(path: Path, rows: list[tuple[Any, ...]] = ROWS, header: tuple[str, ...] = HEADER) -> Path:
    if path.suffix == ".csv":
        path.write_text("\n".join(",".join(map(str, row)) for row in (header, *rows)) + "\n")
    else:
        pa = pytest.importorskip("pyarrow")
        import pyarrow.parquet

        columns = {name: [row[i] for row in rows] for i, name in enumerate(header)}
        columns["done"] = [value == "true" for value in columns["done"]]
        pyarrow.parquet.write_table(pa.table(columns), path)
    return path


@pytest.mark.parametrize("ending", ["csv", "parquet"])
def test_a_table_of_decisions_becomes_a_dataset(tmp_path: Path, ending: str) -> None:
    pytest.importorskip("pyarrow")
    (tmp_path / "map.yaml").write_text(MAPPING)
    (tmp_path / "key").write_text("k" * 32 + "\n")
    source = table(tmp_path / f"log.{ending}")
    command = ["data", "import", str(source), "--mapping", str(tmp_path / "map.yaml"), "--out", str(tmp_path / "set")]
    assert main(command) == 2  # without a key
    assert main([*command, "--key-file", str(tmp_path / "key")]) == 0
    dataset = Dataset.open(tmp_path / "set", verify=True)
    assert dataset.episodes.length.tolist() == [2, 1, 2]  # in the order in which they ended
    assert dataset.take("action", np.arange(5)).tolist() == [0, 2, 0, 1, 1]
    assert dataset.take("reward", np.arange(5)).tolist() == [1, 3, 5, 2, 4]
    assert dataset.take("obs", np.arange(5))[:, 0].tolist() == [20.5, 21.5, 22.0, 18.0, 19.0]
    noise = dataset.take("obs", np.arange(5))[:, 1] - [0.1, 0.3, 0.5, 0.2, 0.4]
    assert 0.05 < np.abs(noise).mean() < 2.0
    terminated, truncated = dataset.ends()
    assert terminated.tolist() == [True, True, False]
    assert truncated.tolist() == [False, False, True]
    customers = [dataset.groups["customer"][code] for code in dataset.episodes.groups["customer"]]
    assert customers == [pseudonym(name, b"k" * 32) for name in ("kunde7", "kunde7", "kunde8")]
    assert [each["name"] for each in dataset.policies] == ["ed", "flo"]
    assert dataset.manifest["reward_range"] == [0, 10]
    kept = b"".join(path.read_bytes() for path in (tmp_path / "set").iterdir())
    for secret in (b"kunde7", b"kunde8", b"a@x"):
        assert secret not in kept
    card = (tmp_path / "set" / CARD).read_text()
    for entry in (
        "column: customer\n  treatment: keyed hash",
        "column: email\n  treatment: dropped",
        "standard_deviation: 0.5",
    ):
        assert entry in card
    assert {each.name for each in check_dataset(dataset)} == {"unknown-final"}
    delete = ["data", "delete", str(tmp_path / "set"), "--where", "customer=kunde7", "--runs", str(tmp_path)]
    assert main(delete) == 2
    assert main([*delete, "--key-file", str(tmp_path / "key")]) == 0
    assert len(Dataset.open(tmp_path / "set").episodes) == 1


@pytest.mark.parametrize(
    ("rows", "changes", "what"),
    [
        ([*ROWS, ("s1", *ROWS[0][1:])], "", "belongs to the episode 's1', which is over"),
        ([("s1", "kunde7", "n", "ed", "warm", 0.1, "wait", 1, "true", "")], "", "'temperature' holds something"),
        ([("s1", "kunde7", "n", "ed", "", 0.1, "wait", 1, "true", "")], "", "'temperature' is empty in row 1"),
        ([("s1", "kunde7", "n", "ed", 1, 0.1, "", 1, "true", "")], "", "'choice' is empty"),
        ([("s1", "kunde7", "n", "ed", 1, 0.1, "jump", 1, "true", "")], "", "The action 'jump' is none"),
        ([("s1", "kunde7", "n", "ed", 1, 0.1, "wait", 1, "maybe", "")], "", "neither true nor false"),
        (
            [
                ("s1", "kunde7", "n", "ed", 1, 0, "wait", 1, "", ""),
                ("s1", "kunde7", "m", "ed", 1, 0, "wait", 1, "", ""),
            ],
            "",
            "several values of the group 'site'",
        ),
        (ROWS, "episode: sesion", "no column 'sesion'"),
        (ROWS, "observations: [x]", "'observations' in the mapping"),
        (ROWS, "actions: 1", "'actions"),
        (ROWS, "personal: {gain: hash}", "'gain' is a number"),
        (ROWS, "personal: {gain: drop}", "'gain' is to be dropped and is mapped"),
        (ROWS, "personal: {site: {noise: 1}}", "noise has no effect"),
        (ROWS, "action: [choice, gain]", "Discrete actions are in one column"),
        (ROWS, "action_mask: [done]", "1 columns of action_mask for 3 actions"),
    ],
)
def test_what_is_wrong_in_a_table_is_said(
    tmp_path: Path, rows: list[Any], changes: str, what: str, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("pyarrow")
    mapping = MAPPING.replace("customer: hash, ", "")
    if changes:
        name = changes.partition(":")[0] + ":"
        mapping = "\n".join(line for line in mapping.splitlines() if not line.startswith(name)) + f"\n{changes}\n"
    (tmp_path / "map.yaml").write_text(mapping)
    source = table(tmp_path / "log.csv", rows)
    assert main(
        ["data", "import", str(source), "--mapping", str(tmp_path / "map.yaml"), "--out", str(tmp_path / "set")]
    ) in (2, 4)
    assert what in capsys.readouterr().err
    assert sorted(path.name for path in tmp_path.iterdir()) == ["log.csv", "map.yaml"]


def test_incomplete_episodes_can_be_left_out_and_masks_and_numbers_come_in(tmp_path: Path) -> None:
    pytest.importorskip("pyarrow")
    header = ("id", "x", "y", "force", "r", "may0", "may1", "a")
    rows = [(1, 0.5, 2, 0.25, 1, 1, 0, 0), (2, "", 3, 0.5, 1, 1, 1, 1), (3, 1.5, 4, -0.75, 2, 0, 1, 1)]
    table(tmp_path / "log.csv", rows, header)
    shared = "episode: id\nobservation: {place: [x], other: [y]}\nreward: r\nincomplete: drop\n"
    (tmp_path / "numbers.yaml").write_text(shared + "action: force\naction_low: -1\naction_high: 1\n")
    (tmp_path / "masked.yaml").write_text(shared + "action: a\nactions: 2\naction_mask: [may0, may1]\n")
    for name in ("numbers", "masked"):
        words = ["data", "import", str(tmp_path / "log.csv"), "--mapping", str(tmp_path / f"{name}.yaml")]
        assert main([*words, "--out", str(tmp_path / name)]) == 0
    numbers, masked = Dataset.open(tmp_path / "numbers"), Dataset.open(tmp_path / "masked")
    assert numbers.take("action", np.arange(2)).tolist() == [[0.25], [-0.75]]
    assert numbers.take("obs.other", np.arange(2)).tolist() == [[2.0], [4.0]]
    assert masked.take("obs.action_mask", np.arange(2)).tolist() == [[1, 0], [0, 1]]
    assert {each.name for each in check_dataset(masked)} == {"unlabelled-end"}
    assert "1 episodes with empty cells were left out" in (tmp_path / "masked" / CARD).read_text()


@pytest.mark.parametrize("ending", ["csv", "parquet"])
def test_a_dataset_goes_out_as_a_table_and_comes_back(tmp_path: Path, ending: str) -> None:
    pytest.importorskip("pyarrow")
    dataset = make(tmp_path / "set", groups={"user": ["a", "b", "a", "c"]})
    out = tmp_path / f"steps.{ending}"
    assert main(["data", "export", str(dataset.path), "--to", ending, "--out", str(out)]) == 4  # without a card
    write_card(dataset.path / CARD, FULL)
    assert main(["data", "export", str(dataset.path), "--to", ending, "--out", str(out)]) == 0
    (tmp_path / "map.yaml").write_text(
        "episode: episode\nobservation: [obs.0, obs.1, obs.2]\naction: action\nactions: 2\nreward: reward\n"
        "terminated: terminated\ntruncated: truncated\ngroups: [user]\n"
    )
    words = ["data", "import", str(out), "--mapping", str(tmp_path / "map.yaml"), "--out", str(tmp_path / "again")]
    assert main(words) == 0
    again = Dataset.open(tmp_path / "again")
    everything = np.arange(len(dataset))
    for name in dataset.columns:
        assert np.array_equal(again.take(name, everything), dataset.take(name, everything))
    assert again.episodes.length.tolist() == dataset.episodes.length.tolist()
    assert "license: cc0-1.0" in (tmp_path / "steps.card.md").read_text()


def test_wrong_words_are_answered(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = str(make(tmp_path / "set").path)
    for words, what in (
        (["import", "x.csv"], "not said where the dataset"),
        (["import", "x.csv", "--out", "y"], "not said what the columns"),
        (["export", path], "not said what for"),
        (["export", path, "--to", "minary"], "Did you mean 'minari'"),
        (["export", path, "--to", "csv"], "not said where to write"),
        (["export", path, "--to", "csv", "--out", "x.txt"], "does not end in .csv"),
    ):
        assert main(["data", *words]) == 2
        assert what in capsys.readouterr().err
