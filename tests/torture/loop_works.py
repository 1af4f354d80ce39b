"""Commands that write what learning goes round in: preferences, rewards, decisions, retraining, packages and jobs."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import numpy as np
import yaml

import rltrain
from rltrain.model_registry.store import Registry
from rltrain.preferences.folder import Preferences
from rltrain.recording.decision_log import DecisionLog
from rltrain.retraining.cycle import cycles_in
from rltrain.rewards.files import load_reward
from rltrain.runs.layout import list_checkpoints
from rltrain.runs.verify import find_fault
from tests.torture.commands import ENV, command
from tests.torture.work import Work

PREFS, LOGS, POLICY, GATE = "prefs", "logs", "pole.yaml", "gate.yaml"
QUICK_FIT = "--members 2 --hidden 8 --epochs 3"
FILED = {"env": {"max_episode_steps": 30}, "when": "always", "collect": {"episodes": 20}, "reference_episodes": 20}
TRAINED = {"total_timesteps": 64, "num_envs": 4, "n_eval_episodes": 1, "agent": {"n_steps": 16, "batch_size": 64}}


def prepare(folder: Path, run: str, models: str) -> None:
    """Puts preferences, a log of decisions, a champion and what is to keep it up to date into a folder of works.

    Args:
        folder: The folder, which is the current one.
        run: The name of the run in it.
        models: The name of the registry in it.
    """
    (folder / GATE).write_text(yaml.safe_dump({"episodes": 2, "margin": 1000.0}))
    gate = {"episodes": 2, "margin": 1000.0}
    (folder / POLICY).write_text(
        yaml.safe_dump({"model": "pole", "registry": models, **FILED, "train": TRAINED, "gate": gate})
    )
    for line in (
        f"preferences ask {PREFS} {ENV} --pairs 12 --segment 5 --episodes 8 --num-envs 4 --device cpu",
        f"preferences label {PREFS} --oracle",
        f"preferences fit {PREFS} {QUICK_FIT}",
        f"models register pole {run} --registry {models}",
        f"models promote pole --gate {GATE} --registry {models}",
        f"export {run} --to sb3 --out model.zip",
    ):
        said = command(*line.split())
        assert said.code == 0, f"{line}: {said.err}"
    policy = rltrain.load(run)
    log = DecisionLog(LOGS, "cart-v1", ENV, policy.observation_space, policy.action_space)
    rng = np.random.default_rng(0)
    for episode in range(40):
        for step in range(10):
            obs = rng.normal(size=(1, 4)).astype(np.float32)
            (decision,) = log.add({"obs": obs}, np.array([step % 2]), episode=str(episode))
            log.feedback(decision, 1.0, terminated=step == 9)
    log.close()


def _questions(folder: Path) -> object:
    prefs = Preferences.open(folder / PREFS)
    rounds = prefs.rounds()
    return [(each.number, each.dataset.checksum, len(each.pairs)) for each in rounds] if len(rounds) > 1 else None


def _answers(folder: Path) -> object:
    prefs = Preferences.open(folder / PREFS)
    mine = [(each.pair, each.choice) for each in prefs.answers.current() if each.labeller == "another"]
    assert len({pair for pair, _ in mine}) == len(mine), "a question is answered twice"
    return mine if len(mine) == len(prefs.questions()) else None  # each line stands for itself


def _reward(folder: Path) -> object:
    models = Preferences.open(folder / PREFS).models()
    facts = [load_reward(path)[1]["checksum"] for path in models]
    return facts[1:] or None


def _studio(folder: Path) -> object:
    made = folder / "made"
    if not made.exists():
        return None
    tasks = json.loads((made / "tasks.json").read_text())
    for task in tasks:
        for side in ("left", "right"):
            assert (made / "videos" / Path(task["data"][side]).name).stat().st_size > 0
    return [task["data"]["pair"] for task in tasks]


def _champion(folder: Path, model: str) -> object:
    registry = Registry(folder / "models", model)
    for number in registry.versions():
        registry.open(number)
    champion = registry.state()["aliases"].get("champion")
    assert champion in (None, *registry.versions()), f"the champion is {champion}"
    return champion


def _retrained(folder: Path) -> object:
    champion, cycles = _champion(folder, "pole"), cycles_in(folder / "pole.retraining")
    return "promoted" if cycles and cycles[-1].outcome == "promoted" and champion != 1 else None


def _package(folder: Path) -> object:
    made = folder / "walk-home"
    files = sorted(path for path in made.rglob("*") if path.is_file())
    return [(str(path.relative_to(made)), hashlib.sha256(path.read_bytes()).hexdigest()) for path in files] or None


def _imported(folder: Path) -> object:
    runs = sorted((folder / "runs").glob("*/*"))
    saved = [path for run in runs for path in list_checkpoints(run / "checkpoints")]
    faults = [fault for path in saved if (fault := find_fault(path)) is not None]
    assert not faults, faults
    return "imported" if saved else None


def _job(folder: Path) -> object:
    path = folder / "job.yaml"
    return yaml.safe_load(path.read_text())["run"] if path.exists() else None


def _drawn(folder: Path) -> object:
    path = folder / "made.png"
    return path.stat().st_size if path.exists() else None


LOOP_WORKS = {
    "preferences ask": Work(
        f"preferences ask {PREFS} {ENV} --pairs 9 --episodes 8 --num-envs 4 --device cpu", _questions
    ),
    "preferences label": Work(f"preferences label {PREFS} --oracle --labeller another", _answers),
    "preferences fit": Work(f"preferences fit {PREFS} {QUICK_FIT} --seed 1", _reward),
    "preferences export": Work(f"preferences export {PREFS} --to label-studio --all --out made", _studio),
    "preferences show": Work(f"preferences show {PREFS} --out made.png", _drawn),
    "models promote": Work(f"models promote cart --gate {GATE}", lambda folder: _champion(folder, "cart")),
    "retrain": Work(f"retrain {POLICY}", _retrained),
    "new-env": Work("new-env walk-home", _package),
    "import-sb3": Work(f"import-sb3 model.zip --env {ENV}", _imported),
    "cloud": Work(f"cloud skypilot ppo {ENV} --image lab/rltrain --out job.yaml", _job),
}
"""By name; :data:`~tests.torture.works.WORKS` has them too."""
