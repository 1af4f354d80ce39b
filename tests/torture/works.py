"""Commands besides training that write: what each needs, and what must hold of what it leaves."""

from __future__ import annotations

import csv
import functools
import hashlib
import json
import random
import shutil
import warnings
from collections.abc import Callable
from contextlib import chdir
from pathlib import Path

import yaml

from rltrain.data.card import REQUIRED
from rltrain.data.check import episode_digests
from rltrain.data.dataset import Dataset
from rltrain.model_registry.store import Registry
from tests.torture.commands import ENV, command, kept_folder, trained
from tests.torture.loop_works import LOGS, LOOP_WORKS, prepare
from tests.torture.work import Work

RUN, DATA, TABLE, MAPPING, MODELS = "run", "data", "table.csv", "mapping.yaml", "models"
EPISODES = 24
SMALL = "--total-timesteps 256 --num-envs 4 --n-eval-episodes 1 --agent.n-steps 16 --agent.n-epochs 1"


def place(folder: Path) -> Path:
    """Puts a run, a dataset, a table with its mapping, a registry, and what learning goes round in into a folder."""
    return Path(shutil.copytree(_made(), folder, symlinks=True))


@functools.cache
def _made() -> Path:
    folder = kept_folder("torture-works-")
    shutil.copytree(trained(), folder / RUN)
    with warnings.catch_warnings(), chdir(folder):
        warnings.simplefilter("ignore")
        policies = f"--policy random=3 --policy {RUN}=1"
        _done(f"record {ENV} {policies} --episodes {EPISODES} --out {DATA} --num-envs 4 --device cpu")
        _done(f"models register cart {RUN}")
        prepare(folder, RUN, MODELS)
    card = yaml.safe_load((folder / DATA / "card.yaml").read_text())
    (folder / DATA / "card.yaml").write_text(yaml.safe_dump({**card, **dict.fromkeys(REQUIRED, "told")}))
    rng = random.Random(0)
    with (folder / TABLE).open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["session", "user", "x", "y", "chosen", "gain", "over"])
        for session in range(400):
            for step in range(25):
                numbers = [f"{rng.random():.6f}" for _ in range(2)]
                rows.writerow([session, f"u{session % 40}", *numbers, rng.randrange(3), rng.random(), step == 24])
    mapping = {"episode": "session", "observation": ["x", "y"], "action": "chosen", "actions": 3, "reward": "gain"}
    (folder / MAPPING).write_text(yaml.safe_dump({**mapping, "terminated": "over", "groups": ["user"]}))
    return folder


def _done(line: str) -> None:
    said = command(*line.split())
    assert said.code == 0, said.err


def _dataset(name: str) -> Callable[[Path], object]:
    def left(folder: Path) -> object:
        if not (folder / name).exists():
            return None
        dataset = Dataset.open(folder / name, verify=True)  # how it is divided into files depends on interruptions
        return (
            [each.hex() for each in episode_digests(dataset)],
            dataset.episodes.seed.tolist(),
            dataset.manifest["how"],
        )

    return left


def _datasets(*names: str) -> Callable[[Path], object]:
    def left(folder: Path) -> object:
        found = [_dataset(name)(folder) for name in names]
        assert len({each is None for each in found}) == 1, "some of them are there, others not"
        return None if found[0] is None else found

    return left


def _file(name: str) -> Callable[[Path], object]:
    def left(folder: Path) -> object:
        path = folder / name
        return hashlib.sha256(path.read_bytes()).hexdigest() if path.exists() else None

    return left


def _version(folder: Path) -> object:
    registry = Registry(folder / MODELS, "cart")
    numbers = registry.versions()
    for number in numbers:
        registry.open(number)
    assert numbers == list(range(1, len(numbers) + 1)), numbers
    state = registry.state()
    assert all(number in numbers for number in state["aliases"].values()), state["aliases"]
    return None if len(numbers) < 2 else registry.facts(2)["lineage"]["policy_sha256"]


def _sweep(folder: Path) -> object:
    table = folder / "sweep" / "trials.csv"
    if not table.exists():
        return None
    with table.open() as file:
        rows = list(csv.DictReader(file))
    done = [row for row in rows if row["state"] in ("complete", "pruned")]
    return len(done) if len(done) >= 3 else None


def _exported(name: str) -> Callable[[Path], object]:
    def left(folder: Path) -> object:
        path = folder / name
        if not path.exists():
            return None
        described = path.with_name(f"{path.name}.json")
        if described.exists():  # between the two files there is a moment; the checksum tells of it
            json.loads(described.read_text())
        return path.stat().st_size

    return left


WORKS = {
    "record": Work(f"record {RUN} --episodes 60 --num-envs 4 --out made --device cpu", _dataset("made")),
    "data import": Work(f"data import {TABLE} --mapping {MAPPING} --out made", _dataset("made")),
    "data import decisions": Work(f"data import {LOGS} --out made", _dataset("made")),
    "data split": Work(f"data split {DATA} --out made", _datasets("made/train", "made/val", "made/test")),
    "data delete": Work(f"data delete {DATA} --where policy=random", _dataset(DATA)),
    "data export csv": Work(f"data export {DATA} --to csv --out made.csv", _file("made.csv")),
    "data export parquet": Work(f"data export {DATA} --to parquet --out made.parquet", _file("made.parquet")),
    "data export minari": Work(f"data export {DATA} --to minari --out made --id a-v0", _file("made/a-v0/README.md")),
    "models register": Work(f"models register cart {RUN}", _version),
    "export onnx": Work(f"export {RUN} --to onnx --out made.onnx", _exported("made.onnx")),
    "export sb3": Work(f"export {RUN} --to sb3 --out made.zip", _exported("made.zip")),
    "report": Work(f"report {RUN} --out made.html", _exported("made.html")),
    "plot": Work(f"plot {RUN} --out made.png", _exported("made.png")),
    "watch": Work(f"watch {RUN} --out made.gif --device cpu", _exported("made.gif")),
    "sweep": Work(f"sweep ppo {ENV} --trials 3 --out sweep {SMALL}", _sweep),
    **LOOP_WORKS,
}
"""All of them, by name."""
