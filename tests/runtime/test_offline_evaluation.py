"""Offline evaluation against the value that a policy is known to have."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from gymnasium import spaces
from torch import Tensor, nn

import rltrain
from rltrain.agent import Actor, ActOut, State
from rltrain.agents.parts.actors import DistributionActor
from rltrain.agents.parts.distributions import Categorical
from rltrain.cli import main
from rltrain.data.dataset import Dataset
from rltrain.data.writer import DatasetWriter
from rltrain.env import Observation
from rltrain.errors import ConfigError
from rltrain.evaluation.offline import clone, evaluate_offline

STATES, ACTIONS, GAMMA, HORIZON = spaces.Discrete(3), spaces.Discrete(2), 0.9, 20


class Table(nn.Module):
    """Logits of a table."""

    def __init__(self, logits: list[list[float]]) -> None:
        super().__init__()
        self.register_buffer("logits", torch.tensor(logits))

    def forward(self, obs: Tensor) -> Tensor:
        return self.logits[obs]


def policy(*chances: float) -> DistributionActor:
    """Takes action 1 in each state with these chances."""
    logits = [[float(np.log(1 - p)), float(np.log(p))] for p in chances]
    return DistributionActor(Categorical(ACTIONS), None, table=Table(logits))


def true_value(chances: list[float]) -> float:
    """By dynamic programming, from state 0.

    In each state action 1 goes on to the next with a reward of 1, from the last one to the end; action 0 stays.
    """
    values = np.zeros(3)
    for _ in range(HORIZON):
        stay = GAMMA * values
        go = 1.0 + GAMMA * np.append(values[1:], 0.0)
        p = np.array(chances)
        values = p * go + (1 - p) * stay
    return float(values[0])


def play(path: Path, chances: list[float], episodes: int = 400) -> Dataset:
    rng = np.random.default_rng(0)
    rows: dict[str, list[Any]] = {name: [] for name in ("obs", "action", "reward", "terminated", "truncated")}
    lengths, finals = [], []
    for _ in range(episodes):
        state, length, over = 0, 0, False
        while not over and length < HORIZON:
            action = int(rng.random() < chances[state])
            over = action == 1 and state == 2
            length += 1
            for name, value in (("obs", state), ("action", action), ("reward", float(action))):
                rows[name].append(value)
            rows["terminated"].append(over)
            rows["truncated"].append(not over and length == HORIZON)
            state += 0 if over else action
        lengths.append(length)
        finals.append(state)
    dtypes = {"obs": np.int64, "action": np.int64, "reward": np.float32, "terminated": bool, "truncated": bool}
    columns = {name: np.array(values, dtypes[name]) for name, values in rows.items()}
    with DatasetWriter(path, STATES, ACTIONS) as writer:
        writer.add(columns, lengths, {"obs": np.array(finals)})
    return Dataset.open(path)


BEHAVIOUR, OTHER = [0.4, 0.5, 0.3], [0.7, 0.6, 0.5]


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    return play(tmp_path_factory.mktemp("data") / "set", BEHAVIOUR)


@pytest.mark.parametrize("known", [True, False], ids=["who recorded is known", "who recorded is cloned"])
def test_every_estimate_is_near_the_true_value(data: Dataset, known: bool) -> None:
    truth, recorded = true_value(OTHER), true_value(BEHAVIOUR)
    assert abs(truth - recorded) > 0.15
    result = evaluate_offline(
        policy(*OTHER),
        STATES,
        ACTIONS,
        data,
        gamma=GAMMA,
        behaviour=policy(*BEHAVIOUR) if known else None,
        deterministic=False,
        fqe_steps=800,
    )
    assert result.estimates["data"].value == pytest.approx(recorded, abs=0.1)
    for name in ("fqe", "wis", "pdis", "wpdis"):
        assert result.estimates[name].value == pytest.approx(truth, abs=0.12), name
    for name in ("fqe", "wpdis"):
        low, high = result.estimates[name].interval
        assert low - 0.05 < truth < high + 0.05
        assert 0.0 < high - low < 0.5
    assert result.effective is not None
    assert 20 < result.effective < 400


def test_a_deterministic_policy(data: Dataset) -> None:
    """It goes on at once: three steps, of 1 each."""
    result = evaluate_offline(policy(0.9, 0.9, 0.9), STATES, ACTIONS, data, gamma=GAMMA, fqe_steps=800)
    truth = 1 + GAMMA + GAMMA**2
    assert result.estimates["fqe"].value == pytest.approx(truth, abs=0.1)
    assert result.estimates["wis"].value == pytest.approx(truth, abs=0.01)


def test_a_clone_has_the_chances_of_the_data(data: Dataset) -> None:
    actor = clone(data, STATES, ACTIONS)
    likely = actor.log_likelihood(torch.arange(3), torch.ones(3, dtype=torch.int64)).exp()
    assert likely.tolist() == pytest.approx(BEHAVIOUR, abs=0.05)


class Remembers(Actor):
    """Has memory."""

    def initial_state(self, n: int) -> State:
        return torch.zeros(n, 1)

    def choose(self, obs: Observation, state: State, *, deterministic: bool, rng: torch.Generator | None) -> ActOut:
        return ActOut(torch.zeros(1), state)


@pytest.mark.parametrize(
    ("actor", "options", "what"),
    [(policy(0.5, 0.5, 0.5), {"gamma": 1.0}, "gamma=1 is not"), (Remembers(), {}, "with memory is not evaluated")],
)
def test_what_cannot_be_estimated_is_refused(data: Dataset, actor: Actor, options: dict[str, Any], what: str) -> None:
    with pytest.raises(ConfigError, match=what):
        evaluate_offline(actor, STATES, ACTIONS, data, **options)


def test_the_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    options: dict[str, Any] = {"progress": False, "n_eval_episodes": 0, "device": "cpu", "run_dir": tmp_path / "runs"}
    agent = {"n_steps": 16, "batch_size": 64}
    run = rltrain.train("ppo", "rltrain/CartPole-v1", num_envs=8, total_timesteps=256, agent=agent, **options).run_dir
    from rltrain.recording.recorder import record

    record("rltrain/CartPole-v1", tmp_path / "set", episodes=12)
    words = ["eval", str(run), "--data", str(tmp_path / "set"), "--device", "cpu", "--fqe-steps", "300"]
    assert main([*words, "--stochastic"]) == 0
    text = capsys.readouterr().out
    assert "fitted Q evaluation" in text
    assert "estimated by cloning" in text
    assert main([*words, "--json", "--behaviour", str(run), "--gamma", "0.5"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["gamma"] == 0.5
    assert found["estimates"]["fqe"]["value"] == pytest.approx(2.0, abs=0.4)  # rewards of 1, nobody falls at once
    for wrong, what in (
        ([*words, "--gamma", "1"], "gamma=1 is not between"),
        ([*words, "--env.frame-stack", "3"], "none is played in"),
        (["eval", "rltrain/CartPole-v1", "--data", str(tmp_path / "set")], "is for the policy of a run"),
        (["eval", str(run), "--gamma", "0.5"], "is for estimates from a dataset"),
    ):
        assert main(wrong) == 2
        assert what in capsys.readouterr().err
