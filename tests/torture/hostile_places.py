"""Datasets, registries of models, studies and exported policies that somebody else made to do harm."""

from __future__ import annotations

import contextlib
import json
import os
import random
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

from rltrain.errors import RLTrainError
from rltrain.retraining.cycle import STATE, Cycle
from rltrain.serving.model import open_model
from rltrain.storage.records import sealed
from tests.forging import WRONG, forge, places_in, put
from tests.torture.commands import ENV, Said, command
from tests.torture.works import SMALL, WORKS, place

Harm = Callable[[Path, Path], object]  # of a folder of tests.torture.works, with a folder outside

FILES = {
    "data": ("dataset.json", "data_00000.safetensors", "episodes.safetensors", "card.yaml"),
    "models/cart": ("state.json", ".lock", "v1/version.json", "v1/config.yaml", "v1/metadata.json"),
    "sweep": ("study.journal", "study.journal.lock", "best.yaml", "trials.csv", "sweep.png"),
    "prefs": (
        *("preferences.json", "answers.jsonl", ".lock", "rounds/0001/pairs.json", "rounds/0001/episodes/dataset.json"),
        *("models/0001/reward.json", "models/0001/reward.safetensors"),
    ),
    "pole.retraining": (".lock", "cycle_0001/state.json", "cycle_0001/episodes/dataset.json"),
    "logs": ("decisions_00000000_0000.jsonl",),
    ".": ("made.onnx", "made.onnx.json", "mapping.yaml", "table.csv", "pole.yaml", "gate.yaml"),
}
"""The files that are attacked, by folder."""
NOISE = random.Random(0).randbytes(999)
LINKED = {
    "data": ("data",),
    "models/cart": ("models/cart", "models/cart/v1"),
    "sweep": ("sweep/runs",),
    "prefs": (
        *("prefs/rounds", "prefs/rounds/0001", "prefs/rounds/0002", "prefs/models", "prefs/models/0001"),
        *("prefs/films", "prefs/runs", "prefs/runs/round_0001"),
    ),
    "pole.retraining": (
        *("pole.retraining", "pole.retraining/cycle_0001", "pole.retraining/cycle_0001/runs"),
        *("pole.retraining/cycle_0001/episodes", "pole.retraining/reference_v1"),
    ),
    "logs": ("logs",),
}
"""The folders in whose places links lead elsewhere."""
FORGED = (
    *("data/dataset.json", "models/cart/state.json", "models/cart/v1/version.json", "made.onnx.json"),
    *("prefs/preferences.json", "prefs/rounds/0001/pairs.json", "prefs/models/0001/reward.json"),
    "pole.retraining/cycle_0001/state.json",
)
LINES = {
    "data": (
        *("data show data --out none", "data check data", "data split data --out made", "data show data"),
        *("data export data --to csv --out made.csv", "data delete data --where policy=random"),
        f"train bc {ENV} --data data --total-timesteps 512 --n-eval-episodes 0 --no-progress --device cpu",
    ),
    "models/cart": (
        *("models list", "models show cart@1", "models path cart@1", "models log cart", "models alias cart@1 canary"),
        *("models rollback cart", "models register cart run", "models list"),
    ),
    "sweep": (f"sweep ppo {ENV} --trials 2 --out sweep {SMALL}",),
    "prefs": (
        *("preferences show prefs --out made.png", "preferences fit prefs --members 2 --hidden 8 --epochs 2 --seed 2"),
        f"preferences ask prefs {ENV} --pairs 3 --episodes 8 --num-envs 4 --device cpu",
        *("preferences label prefs --oracle --labeller third", "preferences show prefs --out none --json"),
        "preferences export prefs --to label-studio --all --out made",
        f"train ppo {ENV} --reward-model prefs {SMALL} --no-progress --device cpu",
        f"preferences train prefs ppo {ENV} --rounds 1 --pairs 12 --oracle {SMALL} --no-progress --device cpu",
    ),
    "pole.retraining": ("retrain pole.yaml --status", "retrain pole.yaml", "retrain pole.yaml"),
    "logs": (
        *("data import logs --out made", "serve run --port 99999999 --log-decisions logs"),
        "data import logs --out other --missing-reward zero",
    ),
    ".": (
        *("data import table.csv --mapping mapping.yaml --out made", "retrain pole.yaml"),
        "models promote cart --gate gate.yaml",
    ),
}
"""The commands that meet them."""


def made(folder: Path) -> Path:
    """A folder of works with a study, an exported policy and a cycle of retraining that was killed while it trained."""
    here = place(folder)
    for name in ("sweep", "export onnx", "retrain", "preferences export"):
        said = WORKS[name].run(here)
        assert said.code == 0, said.err
    shutil.rmtree(here / "made")  # the films, which take seconds, stay in the preferences
    cycle = Cycle.read(here / "pole.retraining" / "cycle_0001")
    for step in ("train", "register", "promote"):
        del cycle.state["steps"][step]
    cycle.state["outcome"] = None
    (cycle.path / STATE).write_text(sealed(cycle.state))
    next((here / "logs").iterdir()).rename(here / "logs" / "decisions_00000000_0000.jsonl")
    return here


def replaced(name: str, by: Callable[[Path, Path], object]) -> Harm:
    """Puts something else in the place of a file, if it is there or not."""

    def do(here: Path, outside: Path) -> None:
        path = here / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.exists():
            path.rename(outside.parent / "kept")
        by(path, outside)

    return do


def harms() -> Iterator[tuple[str, str, Harm]]:
    """What is tried: the folder, a name, and what is done."""
    for folder, names in FILES.items():
        for name in names:
            path = f"{folder}/{name}"
            yield folder, f"link {name}", replaced(path, lambda path, outside: path.symlink_to(outside / "file"))
            yield folder, f"dangling link {name}", replaced(path, lambda p, outside: p.symlink_to(outside / "nothing"))
            yield folder, f"pipe {name}", replaced(path, lambda path, outside: os.mkfifo(path))
            yield folder, f"device {name}", replaced(path, lambda path, outside: path.symlink_to("/dev/zero"))
            yield folder, f"a folder as {name}", replaced(path, lambda path, outside: path.mkdir())
            yield folder, f"sparse {name}", lambda here, _, path=path: _enlarge(here / path)
            yield folder, f"nested {name}", replaced(path, lambda path, _: path.write_text("[" * 200_000))
            yield folder, f"noise {name}", replaced(path, lambda path, _: path.write_bytes(NOISE))
    for folder, names in LINKED.items():
        for name in names:
            yield folder, f"{name} elsewhere", replaced(name, lambda path, outside: path.symlink_to(outside / "folder"))


def _enlarge(path: Path) -> None:
    """Gives a file a size that no disk has."""
    path.touch()
    os.truncate(path, 2**40)


def forgeries(here: Path, rng: random.Random, number: int) -> Iterator[tuple[str, str, Harm]]:
    """Wrong values at random places of what is sealed, and of a study."""
    for file in FORGED:
        known = [*places_in(here / file)]
        for where in rng.sample(known, min(number, len(known))):
            value = rng.choice(WRONG)
            folder = next((each for each in FILES if each != "." and file.startswith(each)), "exported")
            what = f"forged {file} {where} {value!r}"
            yield folder, what, lambda here, _, f=file, w=where, v=value: forge(here, f, w, v)
    lines = (here / "sweep" / "study.journal").read_text().splitlines()
    for _ in range(number):
        line = rng.randrange(len(lines))
        key, value = rng.choice([*json.loads(lines[line])]), rng.choice(WRONG)
        yield "sweep", f"forged study.journal {line} {key} {value!r}", _forged_line(line, key, value)


def _forged_line(line: int, key: str, value: object) -> Harm:
    def do(here: Path, outside: Path) -> None:
        path = here / "sweep" / "study.journal"
        lines = [json.loads(each) for each in path.read_text().splitlines()]
        put(lines[line], (key,), value)
        path.write_text("".join(json.dumps(each) + "\n" for each in lines))

    return do


def meet(here: Path, folder: str) -> list[Callable[[], object]]:
    """The commands that meet what was done to a folder."""

    def run(line: str) -> Said:
        with contextlib.chdir(here):
            said = command(*line.split())
        assert "--debug" not in said.err, f"nobody foresaw it: {line}: {said.err}"
        return said

    def serve() -> None:
        with contextlib.suppress(RLTrainError):
            open_model(here / "made.onnx")

    commands: list[Callable[[], object]] = [lambda line=line: run(line) for line in LINES.get(folder, ())]
    return [*commands, serve] if folder in (".", "exported") else commands
