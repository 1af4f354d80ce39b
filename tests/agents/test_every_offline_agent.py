"""Requirements on every agent that learns from a dataset."""

from __future__ import annotations

import copy
import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from echo import flat, same
from gymnasium import spaces
from offline_sets import CHOICE, NUMBERS, make_offline, make_set
from torch import Tensor

from rltrain.agents.atc.agent import ATC
from rltrain.agents.bc.agent import BC
from rltrain.agents.cql.agent import CQL
from rltrain.agents.iql.agent import IQL
from rltrain.check.op_counter import OpCounter
from rltrain.data.dataset import Dataset

SQUASHED = {"policy_kwargs": {"net_arch": [16], "squash_output": True}}
AGENTS: dict[str, tuple[Any, spaces.Space, dict[str, Any]]] = {
    "bc": (BC, CHOICE, {"dropout": 0.2}),
    "bc, numbers": (BC, NUMBERS, {"normalize_obs": True}),
    "bc, squashed": (BC, NUMBERS, SQUASHED),
    "iql": (IQL, CHOICE, {}),
    "iql, numbers": (IQL, NUMBERS, {"normalize_obs": True, "n_steps": 3, "max_grad_norm": 1.0}),
    "iql, squashed": (IQL, NUMBERS, SQUASHED),
    "iql, choices": (IQL, spaces.MultiDiscrete([2, 3]), {}),
    "iql, switches": (IQL, spaces.MultiBinary(3), {}),
    "awac": (IQL, CHOICE, {"advantage": "policy"}),
    "awac, numbers": (IQL, NUMBERS, {"advantage": "policy", "normalize_obs": True}),
    "cql": (CQL, CHOICE, {}),
    "cql, dueling": (CQL, CHOICE, {"dueling": True, "normalize_obs": True, "n_steps": 3, "max_grad_norm": 1.0}),
    "atc": (ATC, CHOICE, {"val_fraction": 0.0, "steps_ahead": 2}),
    "atc, numbers": (ATC, NUMBERS, {"val_fraction": 0.0, "normalize_obs": True}),
}
every_agent = pytest.mark.parametrize("name", AGENTS)


@pytest.fixture(scope="module")
def sets(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Dataset]:
    """A dataset for each space of actions."""
    folder = tmp_path_factory.mktemp("sets")
    known = {str(space): space for _, space, _ in AGENTS.values()}
    return {name: make_set(folder / str(number), space) for number, (name, space) in enumerate(known.items())}


def make(name: str, sets: dict[str, Dataset], **changes: Any) -> Any:
    kind, space, options = AGENTS[name]
    return make_offline(kind, sets[str(space)], **{"learning_rate": 1e-2, **options, **changes})


def everything(agent: Any) -> dict[str, Any]:
    return copy.deepcopy({"module": dict(agent.state_dict()), "training": agent.training_state()})


@every_agent
def test_the_seed_decides_everything(name: str, sets: dict[str, Dataset]) -> None:
    def trained(seed: int, noise: int) -> Any:
        with torch.random.fork_rng():
            torch.manual_seed(noise)
            agent = make(name, sets, seed=seed)
            for _ in range(3):
                agent.learn()
        return agent

    first, other = trained(0, noise=1), trained(1, noise=1)
    assert same(everything(first), everything(trained(0, noise=2)))
    assert not torch.equal(flat(first), flat(other))


@every_agent
def test_goes_on_bit_for_bit_from_its_state(name: str, sets: dict[str, Dataset]) -> None:
    agent, resumed = make(name, sets, learning_rate="lin_0.01"), make(name, sets, learning_rate="lin_0.01", seed=0)
    for _ in range(3):
        agent.learn()
    saved = copy.deepcopy((dict(agent.state_dict()), agent.training_state()))
    resumed.load_state_dict(saved[0])
    resumed.load_training_state(saved[1])
    for each in (agent, resumed):
        each.progress_remaining = 0.5
        for _ in range(3):
            each.learn()
    assert same(everything(agent), everything(resumed))


@every_agent
def test_predicting_changes_nothing_and_draws_from_the_given_generator_alone(
    name: str, sets: dict[str, Dataset]
) -> None:
    agent = make(name, sets)
    before, obs = everything(agent), torch.rand(60, 4, generator=torch.Generator().manual_seed(0))

    def sample(seed: int) -> Tensor:
        return agent.predict(obs, deterministic=False, rng=torch.Generator().manual_seed(seed)).action

    assert torch.equal(agent.predict(obs).action, agent.predict(obs).action)
    assert torch.equal(sample(1), sample(1))
    assert not torch.equal(sample(1), sample(2))
    assert all(agent.action_space.contains(np.asarray(row, agent.action_space.dtype)) for row in sample(3).numpy())
    assert same(everything(agent), before)


@every_agent
def test_the_default_generators_are_never_touched(name: str, sets: dict[str, Dataset]) -> None:
    before = torch.get_rng_state(), np.random.get_state()[1].copy(), random.getstate()
    make(name, sets).learn()
    assert torch.equal(torch.get_rng_state(), before[0])
    assert np.array_equal(np.random.get_state()[1], before[1])
    assert random.getstate() == before[2]


@every_agent
def test_an_update_never_waits(name: str, sets: dict[str, Dataset]) -> None:
    agent = make(name, sets)
    before = flat(agent)
    with OpCounter() as counter:
        metrics = agent.learn()
    assert counter.waits == []
    assert not torch.equal(flat(agent), before)
    tensors = [value for value in metrics.values() if isinstance(value, Tensor)]
    assert tensors
    assert all(value.shape == () and not value.requires_grad for value in tensors)


@every_agent
def test_an_update_runs_on_meta(name: str, sets: dict[str, Dataset]) -> None:
    agent = make(name, sets, device="meta")
    for _ in range(2):
        metrics = agent.learn()
    tensors = [value for value in metrics.values() if isinstance(value, Tensor)]
    assert all(tensor.device.type == "meta" for tensor in (*tensors, *agent.state_dict().values()))


@every_agent
def test_the_step_size_follows_the_progress(name: str, sets: dict[str, Dataset]) -> None:
    agent = make(name, sets, learning_rate="lin_0.02")
    for progress in (1.0, 0.25, 0.0):
        agent.progress_remaining, before = progress, flat(agent)
        metrics = agent.learn()
        assert metrics["train/learning_rate"] == pytest.approx(0.02 * progress)
        assert torch.equal(flat(agent), before) == (progress == 0)


@pytest.mark.parametrize("name", ["iql", "awac", "cql", "cql, dueling"])
def test_what_follows_a_termination_is_never_looked_at(tmp_path: Path, name: str) -> None:
    kind, space, options = AGENTS[name]
    dataset = make_set(tmp_path / "set", space, nan_behind_terminations=True)
    agent = make_offline(kind, dataset, **{**options, "normalize_obs": False})
    for _ in range(5):
        metrics = agent.learn()
    assert all(np.isfinite(float(value)) for value in metrics.values())
    assert torch.isfinite(flat(agent)).all()


@pytest.mark.parametrize("name", ["bc", "iql", "awac", "cql", "cql, dueling"])
def test_masks_are_kept_to(tmp_path: Path, name: str) -> None:
    kind, space, options = AGENTS[name]
    agent = make_offline(kind, make_set(tmp_path / "set", space, masked=True), **options)
    for _ in range(5):
        metrics = agent.learn()
    assert all(abs(float(value)) < 1e3 for tag, value in metrics.items() if "loss" in tag or "penalty" in tag)
    obs = {"observation": torch.rand(200, 4), "action_mask": torch.tensor([[0, 1, 1]]).repeat(200, 1)}
    taken = agent.predict(obs, deterministic=False, rng=torch.Generator().manual_seed(0)).action
    assert set(taken.tolist()) <= {3, 4}
