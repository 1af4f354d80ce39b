"""The steps of the loop. Each can be done again after a kill: what it leaves is whole, or is not there."""

from __future__ import annotations

import math
import shutil
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from rltrain.config import EnvConfig
from rltrain.data.check import check_dataset
from rltrain.data.dataset import Dataset
from rltrain.data.drift import drift_between
from rltrain.errors import CheckpointError
from rltrain.model_registry.promotion import promote as through_the_gate
from rltrain.model_registry.store import CHAMPION, Registry
from rltrain.process.stopping import Stopped
from rltrain.recording.decision_reader import DecisionReader
from rltrain.recording.decisions import import_decisions
from rltrain.recording.recorder import record
from rltrain.registry import agent_spec
from rltrain.retraining.cycle import Cycle
from rltrain.retraining.policy_file import PolicyFile
from rltrain.rng import derive_seed
from rltrain.runs.folder import RunFolder
from rltrain.runs.layout import MANIFEST, POLICY, list_checkpoints
from rltrain.runs.places import find_runs
from rltrain.runs.policy import Policy, load
from rltrain.settings import build_config, load_config, merge
from rltrain.storage.files import check_folder, exists, reason
from rltrain.storage.records import read_record
from rltrain.training.launch import resume, start
from rltrain.training.request import RunRequest


@dataclass(frozen=True)
class Work:
    """What the steps work with.

    Attributes:
        cycle: The cycle.
        settings: The policy file as it was when the cycle began.
        folder: The folder of all cycles.
        registry: The versions.
        env: The environment, where its id is not registered here.
        tell: Called with a line of progress.
    """

    cycle: Cycle
    settings: PolicyFile
    folder: Path
    registry: Registry
    env: Any
    tell: Callable[[str], None]

    @property
    def champion(self) -> int:
        """The version that was the champion when the cycle began."""
        return int(self.cycle.state["champion"])

    @property
    def episodes(self) -> Path:
        """Where the collected dataset is."""
        return self.cycle.path / "episodes"

    def policy(self) -> Policy:
        """The champion."""
        return load(self.registry.open(self.champion), env=self.env)


class Ended(Exception):
    """A step that ends the cycle.

    Args:
        step: Its name.
        outcome: How the cycle ends.
        facts: What the step gave.
        said: The same in words.
    """

    def __init__(self, step: str, outcome: str, facts: dict[str, Any], said: str) -> None:
        super().__init__(said)
        self.step, self.outcome, self.facts, self.said = step, outcome, facts, said


Step = Callable[[Work], tuple[dict[str, Any], str]]
"""Returns what is to be kept of it, and the same in words."""


def collect(work: Work) -> tuple[dict[str, Any], str]:
    """Episodes of the champion in use: from the logs, or played in the environment as it is now."""
    settings, out = work.settings.collect, work.episodes
    dropped = 0
    if exists(out):
        dataset = Dataset.open(out)
    elif settings.logs is None:
        seed = derive_seed(work.cycle.number, "collect")
        dataset = record(work.policy(), out, episodes=settings.episodes, seed=seed, **work.settings.env)
    else:
        dataset, dropped = _from_logs(work, settings.logs)
    facts = {"episodes": len(dataset.episodes), "steps": len(dataset), "checksum": dataset.checksum}
    mean = float(dataset.episodes.returns.mean())
    facts |= {"mean_return": mean, "left_out": dropped}
    return facts, f"{facts['episodes']:,} episodes, mean return {mean:.2f}"


def _from_logs(work: Work, logs: str) -> tuple[Dataset, int]:
    settings = work.settings.collect
    since = work.cycle.state["since"]
    until = float(work.cycle.state["until"])
    window: dict[str, Any] = {"after": -math.inf if since is None else float(since), "before": until}
    reader = DecisionReader(logs, idle=settings.idle_seconds)
    model = f"{work.settings.model}-v{work.champion}" if settings.policies == "champion" else None
    over = reader.episodes(**window)
    mine = [each for each in over if model is None or each.model == model]
    usable = mine if settings.missing_reward == "zero" else [each for each in mine if each.complete]
    if len(usable) < settings.least:
        facts = {"over": len(over), "of_champion": len(mine), "usable": len(usable), "least": settings.least}
        said = f"{len(usable)} new episodes of {settings.least} that are needed"
        if over and not mine:
            said += f"; none of {len(over)} is of {model}, which is served by its folder: rltrain models path"
        elif len(mine) > len(usable):
            said += f"; in {len(mine) - len(usable)} more, rewards are missing"
        raise Ended("collect", "too few episodes", facts, said)
    return import_decisions(
        logs, work.episodes, **window, missing_reward=settings.missing_reward, reader=reader, model=model
    )


def check(work: Work) -> tuple[dict[str, Any], str]:
    """What is wrong with them."""
    findings = check_dataset(Dataset.open(work.episodes, verify=True), reward_range=work.settings.reward_range)
    facts = {"findings": [str(each) for each in findings]}
    if errors := [each for each in findings if each.is_error]:
        raise Ended("check", "bad data", facts, "; ".join(map(str, errors)))
    return facts, f"nothing that makes them unfit, {len(findings)} notes"


def drift(work: Work) -> tuple[dict[str, Any], str]:
    """Whether they differ from the reference."""
    found = drift_between(_reference(work), Dataset.open(work.episodes), work.settings.drift)
    facts = asdict(found)
    said = f"{len(found.alarms)} of {found.signals} signals"
    if found.alarms:
        first = found.alarms[0]
        said += f", first of all {first.signal}: {first.before:.4g} before, {first.now:.4g} now"
    if not found.alarms and work.settings.when == "drift":
        raise Ended("drift", "no drift", facts, said)
    return facts, said


def _reference(work: Work) -> Dataset:
    if work.settings.reference is not None:
        return Dataset.open(work.settings.reference, verify=True)
    place = work.folder / f"reference_v{work.champion}"
    if exists(place):
        return Dataset.open(place, verify=True)
    seed = derive_seed(work.champion, "reference")
    return record(work.policy(), place, episodes=work.settings.reference_episodes, seed=seed)


def train(work: Work) -> tuple[dict[str, Any], str]:
    """Trains in the environment as it is now, from the champion on or afresh; a run that was begun is continued."""
    runs, champion = work.cycle.path / "runs", work.registry.open(work.champion)
    try:
        check_folder(runs)
    except OSError as error:
        raise CheckpointError(f"'{runs}' cannot be used: {reason(error)}.", "Move the cycle away.") from error
    begun = find_runs(runs) if exists(runs) else []
    run = begun[-1] if begun else None
    if run is not None and RunFolder(run).metadata().get("status") != "completed":
        if list_checkpoints(run / "checkpoints"):
            result = resume(run, env=work.env, progress=False)
            run = _whole(result)
        else:
            shutil.rmtree(runs)
            run = None
    if run is None:
        config, _ = build_config(*_training(work, champion, runs))
        result = start(RunRequest(config, work.env if isinstance(work.env, type) else None, progress=False))
        run = _whole(result)
    evaluation = RunFolder(run).metadata().get("evaluation") or {}
    score = evaluation.get("mean_reward")
    said = "trained" if score is None else f"mean return {score:.2f} after training"
    return {"run": str(run.relative_to(work.cycle.path)), "mean_reward": score}, f"{said}, {run}"


def _training(work: Work, champion: Path, runs: Path) -> tuple[str, str, dict[str, Any]]:
    """Agent, environment and settings: the champion's with what the policy file changes."""
    own = load_config(champion / "config.yaml")
    algo, env_id = str(own.pop("algo")), str(own["env"].pop("id"))
    for name in ("init_from", "teacher", "data", "nproc"):
        own.pop(name, None)
    fields = EnvConfig.model_fields.keys() - {"id", "kwargs"}
    now = {name: value for name, value in work.settings.env.items() if name in fields}
    now["kwargs"] = {name: value for name, value in work.settings.env.items() if name not in fields}
    settings = merge(merge(own, {"env": now}), work.settings.train)
    seed = int(settings.get("seed", 0)) + work.cycle.number
    loops: dict[str, Any] = {"run_dir": str(runs), "seed": seed}
    if work.settings.start == "champion":
        loops["init_from"] = str(champion)
    if agent_spec(algo).learns_from_data:
        loops["data"] = str(work.episodes)
    return algo, env_id, {**settings, **loops}


def _whole(result: Any) -> Path:
    """The folder of a run that went to its end.

    Raises:
        Stopped: A signal interrupted it.
    """
    if result.stopped_by == "interrupted":
        raise Stopped(result.signal or 15)
    return Path(result.run_dir)


def register(work: Work) -> tuple[dict[str, Any], str]:
    """Makes it a version; the same run becomes one only once."""
    trained = work.cycle.result("train")
    assert trained is not None
    run = work.cycle.path / trained["run"]
    last = list_checkpoints(run / "checkpoints")[-1]
    digest = read_record(last / MANIFEST)["files"][POLICY]["sha256"]
    for number in reversed(work.registry.versions()):
        lineage = work.registry.facts(number)["lineage"]
        if number > work.champion and lineage.get("policy_sha256") == digest and lineage.get("cycle") == _name(work):
            return {"version": number}, f"version {number}"
    lineage = {
        "cycle": _name(work),
        "fine_tuned_from": work.champion,
        "data": str(work.cycle.state["steps"]["collect"]["checksum"]),
    }
    number = work.registry.register(run, card=work.settings.card, lineage=lineage)
    return {"version": number}, f"version {number}"


def _name(work: Work) -> str:
    return f"{work.folder.name}/{work.cycle.path.name}"


def promote(work: Work) -> tuple[dict[str, Any], str]:
    """Makes the version the champion if it passes the gate; what the registry has noted already is not done again."""
    registered = work.cycle.result("register")
    assert registered is not None
    number = int(registered["version"])
    state = work.registry.state()
    if state["aliases"].get(CHAMPION) == number:
        return {"version": number}, f"version {number} is the champion"
    gate = work.settings.gate.model_copy(update={"env": {**work.settings.env, **work.settings.gate.env}})
    passed, checks = False, _refused(state["log"], number)
    if checks is None:
        _, passed, found = through_the_gate(work.registry, gate, str(number), env=work.env)
        checks = [each._asdict() for each in found]
    facts = {"version": number, "checks": checks}
    said = "; ".join(f"{'passed' if each['passed'] else 'FAILED'} {each['name']}: {each['said']}" for each in checks)
    if not passed:
        raise Ended("promote", "refused", facts, said)
    return facts, said


def _refused(log: list[dict[str, Any]], number: int) -> list[dict[str, Any]] | None:
    """The checks of a version that the gate has refused; None if it has not."""
    noted = [each for each in log if each.get("action") == "refused" and each.get("version") == number]
    return noted[-1]["checks"] if noted else None


STEPS: dict[str, Step] = {
    "collect": collect,
    "check": check,
    "drift": drift,
    "train": train,
    "register": register,
    "promote": promote,
}
