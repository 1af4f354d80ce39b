"""Cloning with differential privacy: a person moves a step by no more than it may, and the budget is kept and told."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import rltrain
from rltrain.agents.bc.agent import BC
from rltrain.agents.bc.config import BCConfig
from rltrain.agents.parts.optim import grad_of
from rltrain.data.card import read_card
from rltrain.data.dataset import Dataset
from rltrain.data.writer import DatasetWriter
from rltrain.errors import ConfigError
from rltrain.runs.folder import RunFolder

opacus = pytest.importorskip("opacus")

from rltrain.agents.bc.privacy import epsilon_of  # noqa: E402

CARTPOLE = "rltrain/CartPole-v1"
PRIVATE: dict[str, Any] = {"dp_epsilon": 8.0, "dp_delta": 1e-3, "dp_by": "user", "dp_units": 8, "val_fraction": 0.0}


def people(path: Path, *, wild: bool = False) -> Dataset:
    """Forty people with five short episodes of CartPole's spaces each; the first may have wild ones."""
    vec = rltrain.make_vec(CARTPOLE, 1)
    rng = np.random.default_rng(0)
    obs = rng.normal(size=(200 * 4, 4)).astype(np.float32)
    columns = {"obs": obs, "action": (obs[:, 0] > 0).astype(np.int64), "reward": np.ones(800, np.float32)}
    columns["terminated"] = np.arange(800) % 4 == 3
    columns["truncated"] = np.zeros(800, bool)
    if wild:
        columns["obs"][:20] *= 100.0
        columns["action"][:20] = 1 - columns["action"][:20]
    with DatasetWriter(path, vec.single_observation_space, vec.single_action_space) as writer:
        groups = {"user": [f"user{number // 5}" for number in range(200)]}
        writer.add(columns, [4] * 200, {"obs": obs[:200]}, groups=groups)
    return Dataset.open(path)


def make(dataset: Dataset, **options: Any) -> BC:
    config = BCConfig(**{**PRIVATE, "batch_size": 32, "gradient_steps": 4, **options})
    agent = BC(dataset.observation_space, dataset.action_space, 1, config, seed=0)
    agent.check()
    agent.use_data(dataset)
    return agent


def test_the_budget_is_that_of_the_formula() -> None:
    """Where everybody takes part: Mironov (2017), arXiv:1702.07476, and Canonne et al. (2020), arXiv:2004.00010."""
    noise, steps, delta = 2.0, 10, 1e-5

    def at(order: float) -> float:
        spent = steps * order / (2 * noise**2)
        return spent + math.log((order - 1) / order) - (math.log(delta) + math.log(order)) / (order - 1)

    orders = [1 + x / 10.0 for x in range(1, 100)] + list(range(12, 64))
    assert epsilon_of(noise, 1.0, steps, delta) == pytest.approx(min(map(at, orders)), rel=1e-6)
    assert epsilon_of(noise, 0.1, steps, delta) < 0.5 * epsilon_of(noise, 1.0, steps, delta)
    assert epsilon_of(noise, 0.1, 0, delta) == 0.0


def test_a_person_moves_the_sum_by_no_more_than_the_norm(tmp_path: Path) -> None:
    agent = make(people(tmp_path / "set", wild=True), dp_clip=0.1)
    private = agent.private
    assert private is not None
    assert len(private.units) == 40
    assert all(len(unit) == 20 for unit in private.units)
    gradient, everybody = grad_of(agent.optimizer.flat), list(private.units)

    def loss_of(rows: np.ndarray) -> torch.Tensor:
        return agent._loss(rows)[0]

    def sum_of(units: list[np.ndarray]) -> torch.Tensor:
        return private.clipped_sum(gradient, loss_of, units)

    with_, without = sum_of(everybody), sum_of(everybody[1:])
    assert (with_ - without).norm() == pytest.approx(0.1, rel=1e-3)  # and without a limit far more
    gradient.zero_()
    loss_of(everybody[0]).backward()
    assert gradient.norm() > 1.0
    gradient.zero_()
    loss_of(everybody[1]).backward()
    by_hand = gradient * min(1.0, 0.1 / gradient.norm().item())
    assert torch.allclose(sum_of(everybody[1:2]), by_hand, atol=1e-6)


def test_noise_and_choice_are_as_announced_and_not_of_the_seed(tmp_path: Path) -> None:
    dataset = people(tmp_path / "set")
    agent, other = make(dataset, dp_noise=3.0, dp_clip=0.5), make(dataset, dp_noise=3.0, dp_clip=0.5)
    private = agent.private
    assert private is not None
    assert other.private is not None
    counts = [len(private.draw()) for _ in range(500)]
    assert np.mean(counts) == pytest.approx(8, abs=0.6)
    assert np.std(counts) == pytest.approx(math.sqrt(40 * 0.2 * 0.8), abs=0.4)  # each by itself
    assert all(len(rows) == 4 for rows in private.draw())
    private.put(agent.optimizer, lambda rows: torch.zeros((), requires_grad=True), [])
    gradient = grad_of(agent.optimizer.flat)
    assert gradient.std().item() == pytest.approx(3.0 * 0.5 / 8, rel=0.05)
    other.private.put(other.optimizer, lambda rows: torch.zeros((), requires_grad=True), [])
    assert not torch.equal(gradient, grad_of(other.optimizer.flat))


TRAIN: dict[str, Any] = {
    "device": "cpu",
    "num_threads": 1,
    "trackers": ["csv"],
    "progress": False,
    "n_eval_episodes": 0,
}


def test_training_ends_before_the_budget_and_the_card_says_what_was_spent(tmp_path: Path) -> None:
    dataset = people(tmp_path / "set")
    checksum, agent = dataset.checksum, {**PRIVATE, "batch_size": 32, "gradient_steps": 4, "learning_rate": 1e-2}
    options = {**TRAIN, "data": dataset.path, "run_dir": tmp_path / "runs"}
    result = rltrain.train("bc", CARTPOLE, total_timesteps=10**6, agent=agent, **options)
    assert result.stopped_by == "early_stop"
    promise = RunFolder.open(result.run_dir)[0].metadata()["privacy"]
    assert promise["unit"] == "user"
    assert promise["units"] == 40
    spent = epsilon_of(1.0, 0.2, promise["steps"], 1e-3)
    assert promise["epsilon"] == pytest.approx(spent)
    assert 7.0 < spent <= 8.0 < epsilon_of(1.0, 0.2, promise["steps"] + 4, 1e-3)
    (entry,) = read_card(dataset.path).privacy
    assert entry == {"run": str(result.run_dir.absolute()), **promise}
    assert Dataset.open(dataset.path, verify=True).checksum == checksum
    obs = np.random.default_rng(1).normal(size=(500, 4)).astype(np.float32)
    agreed = (rltrain.load(result.run_dir).predict(obs)[0] == (obs[:, 0] > 0)).mean()
    assert agreed > 0.8  # it has learned all the same


def test_a_private_run_goes_on_bit_for_bit(tmp_path: Path) -> None:
    dataset = people(tmp_path / "set")
    agent = make(dataset)
    agent.learn()
    saved = {name: tensor.clone() for name, tensor in agent.state_dict().items()}, agent.training_state()
    state = {**saved[1], "optimizer": {name: x.clone() for name, x in saved[1]["optimizer"].items()}}
    again = make(dataset)
    again.load_state_dict(saved[0])
    again.load_training_state(state)
    agent.learn()
    again.learn()
    assert all(torch.equal(a, b) for a, b in zip(agent.state_dict().values(), again.state_dict().values(), strict=True))
    assert again.private is not None
    assert again.private.steps == 8


@pytest.mark.parametrize(
    ("options", "what"),
    [
        ({"val_fraction": 0.1}, "val_fraction would use the data without noise"),
        ({"normalize_obs": True}, "normalize_obs would use"),
        ({"dp_epsilon": None}, "dp_delta is for learning with differential privacy"),
        ({"dp_by": "usr"}, "no group column 'usr'"),
        ({"dp_units": 41}, "There are 40 units"),
        ({"dp_delta": 0.1}, "promises nothing"),
        ({"dp_epsilon": 0.01}, "The first update alone spends"),
    ],
)
def test_what_promises_nothing_is_refused(tmp_path: Path, options: dict[str, Any], what: str) -> None:
    with pytest.raises(ConfigError, match=what):
        make(people(tmp_path / "set"), **options)


def test_episodes_are_protected_where_there_are_no_people(tmp_path: Path) -> None:
    agent = make(people(tmp_path / "set"), dp_by=None)
    assert agent.private is not None
    assert len(agent.private.units) == 200
    assert agent.private.facts()["unit"] == "episode"
