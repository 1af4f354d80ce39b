"""NaN, infinity and 1e38 at each of eight places, in each agent, in environments of tensors and of Gymnasium."""

from __future__ import annotations

import math
import random
import warnings
from collections.abc import Iterator
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
from gymnasium import spaces
from safetensors.torch import load_file

import rltrain
from rltrain.data.writer import DatasetWriter
from rltrain.recording.recorder import record
from rltrain.runs.layout import list_checkpoints
from tests.broken_numbers import (
    BrokenContinuous,
    BrokenContinuousGym,
    BrokenGym,
    BrokenNumbers,
    Spoils,
    SpoilsLearning,
)
from tests.data.made import columns_of, finals_of
from tests.torture.frame import Case, Row

N, HORIZON, AT = 4, 8, 21
LAST_GOOD, NOTICED = 64, 96
ROLLOUTS = {"n_steps": HORIZON, "batch_size": 32, "n_epochs": 1, "normalize_obs": True}
REPLAY = {"train_freq": HORIZON, "gradient_steps": 1, "learning_starts": 32, "buffer_size": 256}
GRU = {"policy_kwargs": {"memory": "gru", "memory_size": 8}}
FROM_DATA = {"batch_size": N * HORIZON, "gradient_steps": 1}
RAINBOW = ("double_q", "dueling", "prioritized_replay", "distributional", "noisy")
AGENTS: dict[str, tuple[str, dict[str, Any]]] = {  # by name, or by what is on
    "ppo": ("ppo", ROLLOUTS),
    "pqn": ("pqn", ROLLOUTS),
    "dqn": ("dqn", REPLAY),
    "sac": ("sac", {**REPLAY, "normalize_obs": True}),
    "ppo with memory": ("ppo", {**ROLLOUTS, **GRU}),
    "pqn with memory": ("pqn", {**ROLLOUTS, **GRU}),
    "rainbow": ("dqn", {**REPLAY, **dict.fromkeys(RAINBOW, True)}),
    "bc": ("bc", FROM_DATA),
    "cql": ("cql", {**FROM_DATA, "normalize_obs": True}),
    "iql": ("iql", {**FROM_DATA, "normalize_obs": True}),
}
LEARNERS = ("bc", "cql", "iql")
"""Agents that learn from a dataset: environments give them nothing."""
GIVEN = ("observation", "reward", "final_obs")
NAMED = {
    "observation": "The observation is",
    "reward": "The reward is",
    "final_obs": "The final_obs is",
    "loss": "The loss is",
    "gradient": "The gradient is",
    "parameters": "'actor.",
    "optimizer": "optimizer is",
    "normaliser": "'actor.",
}
SEVERAL = {"loss": "The loss 'critic_loss' is", "gradient": "_grad_norm' is"}
"""Of agents with several losses."""
VALUES = {"NaN": math.nan, "infinity": math.inf, "1e38": 1e38}
ENVS = {"tensors": (BrokenNumbers, BrokenContinuous), "Gymnasium": (BrokenGym, BrokenContinuousGym)}


def case_of(algo: str, kind: str, where: str, value: float) -> Case:
    """Breaks one number, and looks at when that is noticed, what is named, what was saved, and whether it goes on."""

    def case(folder: Path) -> None:
        warnings.simplefilter("ignore")
        name, agent = AGENTS[algo]
        env, kwargs, callbacks = ENVS[kind][name == "sac"], {}, []
        if where in GIVEN:
            kwargs = {"where": where, "value": str(value), "at": AT - (where == "observation")}
        else:
            callbacks = [(SpoilsLearning if where in ("loss", "gradient") else Spoils)(where, value, NOTICED)]
        settings: dict[str, Any] = {"agent": agent, "env_kwargs": kwargs, "run_dir": folder, "num_envs": N}
        if name in LEARNERS:
            settings["data"] = str(record(env, folder / "data", episodes=20, num_envs=N, max_episode_steps=7).path)
            settings["run_dir"] = folder / "runs"
        settings |= {
            "env_options": {"max_episode_steps": 7},
            "save_freq": N * HORIZON,
            "n_eval_episodes": 0,
            "trackers": [],
            "num_threads": 1,
            "device": "cpu",
        }
        try:
            rltrain.train(name, env, callbacks=callbacks, total_timesteps=320, progress=False, **settings)
        except rltrain.RunError as error:
            said = error.cause
        else:
            raise AssertionError("it was not noticed")
        assert {**NAMED, **(SEVERAL if name in ("sac", "iql") else {})}[where] in said, said
        assert f"after {NOTICED} steps" in said, said
        if kwargs:
            row = ROW_OF[kind]
            assert f"environment {row} at step {N * kwargs['at']}" in said, said
        (run,) = settings["run_dir"].glob("*/*")
        saved = list_checkpoints(run / "checkpoints")
        assert saved[-1].name.endswith(f"{LAST_GOOD}"), f"{saved[-1].name} was saved"
        for path in saved:
            for file in ("policy", "training"):
                for name, x in load_file(path / f"{file}.safetensors").items():
                    unknown = name.startswith("episodes")  # NaN where there was none
                    assert unknown or not x.is_floating_point() or bool((x.abs() < 1e30).all()), f"{name} was saved"
        env.mended = True
        went_on = rltrain.resume(run, env=env, total_timesteps=LAST_GOOD + 96, progress=False)
        assert went_on.steps == LAST_GOOD + 96, "it does not go on"

    return case


DATA = ("obs", "final obs", "action", "reward")


def of_data(column: str, value: float) -> Case:
    """Breaks one number of a dataset: that is refused, its place named, before anything is made."""

    def case(folder: Path) -> None:
        arrays, finals = columns_of([5, 7, 6]), finals_of(3)
        arrays["action"] = np.random.default_rng(0).normal(size=(18, 1)).astype(np.float32)
        (finals["obs"][1] if column == "final obs" else arrays[column][8]).flat[-1:] = value
        if column == "reward":
            arrays["reward"][8] = value
        acts = spaces.Box(-np.inf, np.inf, (1,), np.float32)
        with DatasetWriter(folder / "data", spaces.Box(-np.inf, np.inf, (3,), np.float32), acts) as writer:
            writer.add(arrays, [5, 7, 6], finals)
        settings: dict[str, Any] = {"data": str(folder / "data"), "run_dir": folder / "runs", "device": "cpu"}
        try:
            rltrain.train("bc", "rltrain/Pendulum-v1", progress=False, **settings)
        except rltrain.RLTrainError as error:
            said = error.cause
        else:
            raise AssertionError("it was not noticed")
        where = f"'{column.split()[-1]}' in '{folder / 'data'}' is {value:g} in episode 1"
        assert where in said, said
        assert f"step {7 if column == 'final obs' else 3}," in said, said
        assert not (folder / "runs").exists(), "something was made"

    return case


ROW_OF = {"tensors": 2, "Gymnasium": 0}


def cases(short: bool, rng: random.Random) -> Iterator[tuple[str, Case]]:
    """All of them; in the short form nine, each agent, place and value at least once."""
    import rltrain.training.launch  # noqa: F401 (once, before the cases are forked)

    every = [
        (algo, kind, where, value)
        for algo, kind, where, value in product(AGENTS, ENVS, NAMED, VALUES)
        if where != "normaliser" or "normalize_obs" in AGENTS[algo][1]
        if algo not in LEARNERS or (kind == "tensors" and where not in GIVEN)
    ]
    if short:
        places = [where for where in NAMED if where != "normaliser"]
        agents, kinds, values = [name for name in AGENTS if name not in LEARNERS], [*ENVS], [*VALUES]
        every = [(agents[k % len(agents)], kinds[k % 2], where, values[k // 2 % 3]) for k, where in enumerate(places)]
        every += [("ppo", "tensors", "normaliser", "NaN"), ("iql", "tensors", "optimizer", "infinity")]
    for column, value in product(DATA, VALUES):
        if not short or value == "NaN":
            yield f"bc, a dataset, {column}, {value}", of_data(column, VALUES[value])
    for algo, kind, where, value in every:
        yield f"{algo}, {kind}, {where}, {value}", case_of(algo, kind, where, VALUES[value])


ROW = Row(
    6,
    "NaN, infinity and 1e38 at eight places, in each agent, in environments of tensors and of Gymnasium",
    "noticed within an update, its source named, nothing of it saved, the run goes on from the last checkpoint",
    cases,
    {"^(?!(ppo|pqn|dqn|sac), )": 60},  # agents with memory or as Rainbow, and those that learn from data
    seconds=600,
)
