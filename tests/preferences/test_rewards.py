"""The ensemble learns the reward behind preferences, on the promised scale; it is saved and read back equal."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from gymnasium import spaces
from torch import Tensor

from rltrain.errors import CheckpointError, ConfigError
from rltrain.make import make_vec
from rltrain.rewards.comparisons import Clips, Comparisons, foretold
from rltrain.rewards.ensemble import EnsembleConfig, RewardEnsemble
from rltrain.rewards.files import FACTS, TENSORS, find_reward, load_reward, save_reward
from rltrain.rewards.fitting import fit
from rltrain.rewards.wrapper import LEARNED, TRUE, LearnedReward
from rltrain.tree import leaves

BOX, ACTIONS = spaces.Box(-1, 1, (3,), np.float32), spaces.Box(-1, 1, (2,), np.float32)
QUICK = EnsembleConfig(members=3, hidden=[32], epochs=60, patience=60, learning_rate=1e-2)


def true_reward(obs: Tensor, action: Tensor) -> Tensor:
    return 2 * obs[..., 0] - action[..., 1].square()


def compared(count: int = 300, steps: int = 6, *, ends: bool = False, seed: int = 0) -> Comparisons:
    """Random clips, and answers by their true returns."""
    rng = torch.Generator().manual_seed(seed)
    obs = torch.rand(2 * count, steps, 3, generator=rng) * 2 - 1
    action = torch.rand(2 * count, steps, 2, generator=rng) * 2 - 1
    length = torch.randint(1, steps + 1, (2 * count,), generator=rng) if ends else torch.full((2 * count,), steps)
    counts = torch.arange(steps) < length[:, None]
    reward = torch.ones(2 * count, steps) if ends else true_reward(obs, action)
    total = torch.where(counts, reward, 0.0).sum(1).view(-1, 2)
    target = torch.where(total[:, 0] == total[:, 1], 0.5, (total[:, 0] > total[:, 1]).float())
    return Comparisons(Clips(obs, action, counts), torch.arange(2 * count).view(-1, 2), target, torch.arange(count))


def test_it_learns_the_reward_behind_the_answers() -> None:
    model = RewardEnsemble(BOX, ACTIONS, QUICK)
    found = fit(model, compared())
    fresh = compared(seed=1)
    obs, action, _ = fresh.clips.rows(torch.arange(len(fresh.clips)))
    with torch.no_grad():
        learned, true = model(obs, action), true_reward(obs, action)
        difference = fresh.clips.all_sums(model)[:, fresh.pairs]
    right = (difference[..., 0] > difference[..., 1]) == (fresh.target > 0.5)
    assert np.corrcoef(learned, true)[0, 1] > 0.95
    assert right.float().mean() > 0.9
    assert found.held_out is not None
    assert found.held_out.accuracy == pytest.approx(float(right.float().mean()), abs=0.07)
    assert learned.std() == pytest.approx(1.0, abs=0.15)
    assert abs(learned.mean()) < 0.15
    assert not found.keeps_level


def test_ends_of_episodes_give_rewards_their_level() -> None:
    """Every step is worth the same; only ends tell that it is worth something."""
    model = RewardEnsemble(BOX, ACTIONS, QUICK)
    found = fit(model, compared(ends=True))
    fresh = compared(seed=1)
    with torch.no_grad():
        learned = model(*fresh.clips.rows(torch.arange(50))[:2])
    assert found.keeps_level
    assert learned.min() > 0
    assert learned.std() < 0.3 * learned.mean()


def test_the_same_answers_and_seed_give_the_same_model() -> None:
    states = []
    for seed in (0, 0, 1):
        model = RewardEnsemble(BOX, ACTIONS, EnsembleConfig(members=2, epochs=2, hidden=[8]))
        fit(model, compared(30), seed)
        states.append(list(model.state_dict().values()))
    assert all(torch.equal(a, b) for a, b in zip(states[0], states[1], strict=True))
    assert not all(torch.equal(a, b) for a, b in zip(states[0], states[2], strict=True))


@pytest.mark.parametrize("count", [1, 2])
def test_one_answer_is_enough_to_fit(count: int) -> None:
    model = RewardEnsemble(BOX, ACTIONS, EnsembleConfig(members=1, epochs=3, hidden=[8]))
    found = fit(model, compared(count))
    assert found.fitted.answers == count
    assert all(x.isfinite().all() for x in model.state_dict().values())


@pytest.mark.parametrize(
    ("observation", "action"),
    [
        (spaces.Discrete(4), spaces.Discrete(3, start=1)),
        (spaces.Box(0, 255, (8, 8, 1), np.uint8), spaces.MultiDiscrete([2, 3])),
        (spaces.Dict({"a": BOX, "action_mask": spaces.MultiBinary(2)}), spaces.Discrete(2)),
        (spaces.Box(0, 1, (), np.float32), spaces.MultiBinary(3)),
    ],
)
def test_every_kind_of_space_has_a_reward(observation: Any, action: Any, tmp_path: Path) -> None:
    env = rows_of(observation), rows_of(action)
    model = RewardEnsemble(observation, action, EnsembleConfig(members=2, hidden=[8]))
    clips = Clips(_steps(env[0]), _steps(env[1]), torch.ones(4, 2, dtype=torch.bool))
    data = Comparisons(clips, torch.tensor([[0, 1], [2, 3]]), torch.tensor([1.0, 0.0]), torch.arange(2))
    fit(model, data)
    assert model(*env).shape == (8,)
    save_reward(model, tmp_path / "0001", {})
    assert torch.equal(load_reward(tmp_path / "0001")[0](*env), model(*env))


def rows_of(space: spaces.Space, count: int = 8) -> Any:
    samples = [space.sample() for _ in range(count)]
    if isinstance(space, spaces.Dict):
        return {name: torch.from_numpy(np.stack([each[name] for each in samples])) for name in space.spaces}
    return torch.from_numpy(np.stack([np.asarray(each) for each in samples]))


def _steps(rows: Any) -> Any:
    if isinstance(rows, dict):
        return {name: _steps(part) for name, part in rows.items()}
    return rows.unflatten(0, (4, 2))


def test_what_was_foretold_is_measured_as_by_hand() -> None:
    found = foretold(torch.tensor([0.9, 0.8, 0.3, 0.6]), torch.tensor([1.0, 0.0, 0.0, 0.5]))
    assert found is not None
    assert found.accuracy == pytest.approx(2 / 3)
    assert found.brier == pytest.approx((0.01 + 0.64 + 0.09 + 0.01) / 4)
    assert found.loss == pytest.approx(
        -(np.log(0.9) + np.log(0.2) + np.log(0.7) + 0.5 * np.log(0.6) + 0.5 * np.log(0.4)) / 4, rel=1e-5
    )
    assert [(count, share) for count, _, share in found.calibration] == [(1, 0.0), (1, 0.5), (1, 0.0), (1, 1.0)]
    assert found.calibration_error == pytest.approx((0.3 + 0.1 + 0.8 + 0.1) / 4)
    assert foretold(torch.empty(0), torch.empty(0)) is None


def test_damaged_models_are_named(tmp_path: Path) -> None:
    model = RewardEnsemble(BOX, ACTIONS, EnsembleConfig(members=1, hidden=[4]))
    with pytest.raises(CheckpointError, match="no reward model in"):
        find_reward(tmp_path)
    with pytest.raises(CheckpointError, match="no folder"):
        find_reward(tmp_path / "nowhere")
    save_reward(model, tmp_path / "models" / "0001", {})
    path = find_reward(tmp_path)
    tensors, facts = (path / TENSORS).read_bytes(), (path / FACTS).read_text()
    for name, content in (
        (TENSORS, tensors[:-1]),
        (TENSORS, tensors[:-4] + b"\0\1\2\3"),
        (FACTS, facts.replace('"members": 1', '"members": 2')),
        (FACTS, "{}"),
        (FACTS, "no"),
    ):
        (path / name).write_bytes(content if isinstance(content, bytes) else content.encode())
        with pytest.raises(CheckpointError, match="cannot be used"):
            load_reward(path)
        (path / TENSORS).write_bytes(tensors)
        (path / FACTS).write_text(facts)
    (path / TENSORS).unlink()
    with pytest.raises(CheckpointError, match="is missing"):
        load_reward(path)


def test_environments_get_the_learned_reward_and_keep_all_else() -> None:
    plain, inner = (make_vec("rltrain/Pendulum-v1", 3, max_episode_steps=4) for _ in range(2))
    model = RewardEnsemble(plain.single_observation_space, plain.single_action_space, EnsembleConfig(members=2))
    learned = LearnedReward(inner, model)
    obs = plain.reset(1)
    assert torch.equal(obs, learned.reset(1))
    for number in range(6):
        action = torch.full((3, 1), 0.3 * number)
        true, got = plain.step(action), learned.step(action)
        assert torch.equal(got.reward, model(obs, action))
        assert torch.equal(got.info[LEARNED], got.reward)
        assert torch.equal(got.info[TRUE], true.reward)
        same = ("obs", "final_obs", "terminated", "truncated", "episode_return", "episode_length")
        assert all(torch.equal(getattr(true, name), getattr(got, name)) for name in same)
        obs = true.obs
        if number == 2:
            saved = learned.state_dict()
            expected = obs.clone()
    learned.load_state_dict(saved)
    action = torch.full((3, 1), 0.9)
    assert torch.equal(learned.step(action).reward, model(expected, action))
    assert list(leaves(learned.state_dict()["obs"]))
    with pytest.raises(ConfigError, match="reward model is of observations of"):
        LearnedReward(make_vec("rltrain/CartPole-v1", 2), model)
