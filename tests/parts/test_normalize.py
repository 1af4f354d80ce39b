"""Running statistics against numpy and Stable-Baselines3."""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium import spaces
from stable_baselines3.common.vec_env import DummyVecEnv, VecNormalize
from torch import Tensor

from rltrain.errors import ConfigError
from rltrain.normalize import ObservationNormalizer, RewardNormalizer, RunningMoments, check_scaled

VECTOR = spaces.Box(-1.0, 1.0, (3,))


@pytest.mark.parametrize("shape", [(), (3,), (2, 2)], ids=str)
def test_moments_equal_numpy(shape: tuple[int, ...]) -> None:
    rng = np.random.default_rng(0)
    moments, batches = RunningMoments(shape), []
    for size in (1, 50, 7, 1000):
        batches.append(rng.normal(3.0, 2.0, size=(size, *shape)) * 10.0 ** len(batches))
        moments.update(torch.from_numpy(batches[-1]))
        seen = np.concatenate(batches)
        # The prior weighs as 1e-4 samples.
        np.testing.assert_allclose(moments.mean, seen.mean(0), rtol=2e-4)
        assert moments.count.item() == pytest.approx(len(seen), abs=1e-3)
    np.testing.assert_allclose(moments.var, seen.var(0), rtol=1e-5)
    assert moments.mean.shape == shape
    assert moments.mean.dtype == torch.float64


def test_moments_do_not_depend_on_the_batches() -> None:
    samples = torch.randn(120, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64) * 5 + 1e3
    whole, parts = RunningMoments((3,)), RunningMoments((3,))
    whole.update(samples)
    for part in samples.split([1, 100, 19]):
        parts.update(part)
    for name, value in whole.state_dict().items():
        torch.testing.assert_close(parts.state_dict()[name], value, rtol=1e-9, atol=1e-9)


def test_moments_are_precise_far_from_zero() -> None:
    """Ten million off with a deviation of one, which float32 sums would lose."""
    moments = RunningMoments(())
    rng = torch.Generator().manual_seed(0)
    for _ in range(50):
        moments.update(1e7 + torch.randn(200, generator=rng, dtype=torch.float64))
    moments.count.sub_(1e-4)
    assert moments.mean.item() == pytest.approx(1e7, abs=1.0)
    prior = 1e-4 / 10_000 * 1e14  # what the prior at 0 adds to the variance
    assert moments.var.item() - prior == pytest.approx(1.0, rel=0.1)


def test_observations_are_scaled_and_clipped() -> None:
    normalizer = ObservationNormalizer(VECTOR, clip=2.0)
    fresh = torch.tensor([[0.5, -1.5, 9.0]])
    torch.testing.assert_close(normalizer(fresh), torch.tensor([[0.5, -1.5, 2.0]]))  # nothing seen: only clipped
    samples = torch.randn(5000, 3, generator=torch.Generator().manual_seed(0)) * torch.tensor([1.0, 5.0, 0.1]) + 3.0
    normalizer.update(samples)
    scaled = normalizer(samples)
    wanted = ((samples - samples.mean(0)) / samples.std(0, correction=0)).clamp(-2, 2)
    torch.testing.assert_close(scaled, wanted, rtol=1e-3, atol=1e-3)
    assert scaled.max() == 2.0
    assert scaled.min() == -2.0
    assert scaled.dtype == torch.float32
    torch.testing.assert_close(normalizer(samples.view(50, 100, 3)).view(-1, 3), scaled)  # any leading dimensions


def test_a_constant_observation_does_not_blow_up() -> None:
    normalizer = ObservationNormalizer(VECTOR)
    for _ in range(5):
        normalizer.update(torch.full((1000, 3), 7.0))
    assert normalizer(torch.full((1, 3), 7.0)).abs().max() < 0.1
    assert normalizer(torch.full((1, 3), 8.0)).isfinite().all()


def test_what_is_no_number_passes_through() -> None:
    space = spaces.Dict(
        {
            "vector": VECTOR,
            "a.number": spaces.Box(-1.0, 1.0, ()),
            "double": spaces.Box(-1.0, 1.0, (2,), np.float64),
            "picture": spaces.Box(0, 255, (8, 8, 1), np.uint8),
            "plane": spaces.Box(0.0, 1.0, (8, 8, 1)),
            "category": spaces.Discrete(3),
            "many.categories": spaces.MultiDiscrete([2, 3]),
            "counts": spaces.Box(0, 9, (2,), np.int64),
            "grid": spaces.Box(0.0, 9.0, (2, 3)),
            "bytes": spaces.Box(0, 255, (4,), np.uint8),
            "action_mask": spaces.Box(0.0, 1.0, (4,)),
        }
    )
    normalizer = ObservationNormalizer(space)
    scaled = {"vector", "a.number", "double", "counts", "grid", "bytes"}  # two of them are no names for a module
    assert len(normalizer.state_dict()) == 3 * len(scaled)
    space.seed(0)
    drawn = [space.sample() for _ in range(6)]
    obs = {name: torch.from_numpy(np.stack([np.asarray(each[name]) for each in drawn])) for name in space.spaces}
    normalizer.update(obs)
    out = normalizer(obs)
    assert list(out) == list(obs)
    for name, value in obs.items():
        assert out[name].dtype == (torch.float32 if name in ("counts", "bytes") else value.dtype)
        assert torch.equal(out[name], value) == (name not in scaled), name
        if name in scaled:  # element by element
            real = value.double()
            wanted = (real - real.mean(0)) / real.std(0, correction=0)
            torch.testing.assert_close(out[name].double(), wanted.nan_to_num(), rtol=1e-2, atol=1e-2)


def test_what_is_left_out_is_named() -> None:
    with pytest.warns(UserWarning, match=r"leaves out 'kind' \(categories\), 'view' \(a picture\)\."):
        check_scaled(
            spaces.Dict(
                {"x": VECTOR, "kind": spaces.Discrete(3), "view": spaces.Box(0, 255, (8, 8, 3), np.uint8)}
                | {"action_mask": spaces.MultiBinary(2)}
            )
        )


@pytest.mark.parametrize(
    "space",
    [
        spaces.Discrete(3),
        spaces.Box(0, 255, (8, 8, 1), np.uint8),
        spaces.Dict({"kind": spaces.Discrete(3), "action_mask": spaces.Box(0.0, 1.0, (2,))}),
    ],
    ids=["categories", "pictures", "categories and a mask"],
)
def test_nothing_to_normalise_is_an_error(space: spaces.Space) -> None:
    with pytest.raises(ConfigError, match="nothing to normalise"):
        check_scaled(space)


def test_a_normaliser_keeps_only_the_parts_that_a_policy_was_trained_with() -> None:
    space = spaces.Dict({"x": VECTOR, "grid": spaces.Box(0.0, 9.0, (2, 3))})
    normalizer = ObservationNormalizer(space)
    obs = {"x": torch.randn(50, 3), "grid": torch.rand(50, 2, 3) * 9}
    normalizer.update(obs)
    normalizer.keep_only(["actor.obs_normalizer.moments.[x].mean", "actor.obs_normalizer.moments.[x].var"])
    assert torch.equal(normalizer(obs)["grid"], obs["grid"])
    assert not torch.equal(normalizer(obs)["x"], obs["x"])


@pytest.mark.parametrize("space", [spaces.Discrete(3), spaces.Box(0, 255, (8, 8, 1), np.uint8)], ids=str)
def test_nothing_to_scale(space: spaces.Space) -> None:
    normalizer = ObservationNormalizer(space)
    obs = torch.ones((4, *(space.shape or ())), dtype=torch.uint8)
    normalizer.update(obs)
    assert normalizer(obs) is obs
    assert not normalizer.state_dict()


class Replay(gym.Env):
    """One column of given rewards and ends."""

    observation_space = spaces.Box(-1.0, 1.0, (1,))
    action_space = spaces.Discrete(2)

    def __init__(self, rewards: np.ndarray, dones: np.ndarray) -> None:
        self.stream = iter(zip(rewards.tolist(), dones.tolist(), strict=True))

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> Any:
        return np.zeros(1, np.float32), {}

    def step(self, action: Any) -> Any:
        reward, done = next(self.stream)
        return np.zeros(1, np.float32), reward, done, False, {}


def test_rewards_are_scaled_as_by_stable_baselines3() -> None:
    """The statistics of the discounted returns are the same; ours are merged once a rollout."""
    horizon, n, gamma, rollouts = 25, 6, 0.97, 3
    rng = np.random.default_rng(0)
    rewards = rng.normal(0.5, 3.0, size=(horizon * rollouts, n)).astype(np.float32)
    dones = rng.random((horizon * rollouts, n)) < 0.1
    columns = [(lambda i=i: Replay(rewards[:, i], dones[:, i])) for i in range(n)]
    theirs = VecNormalize(DummyVecEnv(columns), norm_obs=False, gamma=gamma)
    theirs.reset()
    ours = RewardNormalizer(n, gamma)
    for part in range(rollouts):
        rows = slice(part * horizon, (part + 1) * horizon)
        for _ in range(horizon):
            theirs.step(np.zeros(n, np.int64))
        scaled = ours(torch.from_numpy(rewards[rows]), torch.from_numpy(dones[rows]))
        assert ours.moments.mean.item() == pytest.approx(float(theirs.ret_rms.mean), rel=1e-6)
        assert ours.moments.var.item() == pytest.approx(float(theirs.ret_rms.var), rel=1e-6)
        assert ours.moments.count.item() == pytest.approx(float(theirs.ret_rms.count))
        np.testing.assert_allclose(ours.returns, theirs.returns, rtol=1e-6, atol=1e-6)
        np.testing.assert_allclose(scaled, theirs.normalize_reward(rewards[rows]), rtol=1e-5, atol=1e-6)
    assert scaled.dtype == torch.float32


def test_rewards_are_clipped_and_not_shifted() -> None:
    normalizer = RewardNormalizer(1, 0.0)
    reward = torch.tensor([[1.0], [-1.0]]).repeat(500, 1)
    reward[0] = 1000.0
    scaled = normalizer(reward, torch.zeros(1000, 1, dtype=torch.bool))
    assert scaled[0] == 10.0
    assert scaled[1] == -scaled[2] < 0


def test_discounted_returns_by_hand() -> None:
    normalizer = RewardNormalizer(2, 0.5)

    def feed(reward: list[list[float]], done: list[list[bool]]) -> Tensor:
        normalizer(torch.tensor(reward), torch.tensor(done))
        return normalizer.returns

    # 1, then 0.5 * 1 + 2 = 2.5; the second column ends after its first step
    assert feed([[1.0, 1.0], [2.0, 4.0]], [[False, True], [False, False]]).tolist() == [2.5, 4.0]
    assert normalizer.moments.mean.item() == pytest.approx((1 + 2.5 + 1 + 4) / 4, rel=1e-4)
    # the running returns go on from rollout to rollout
    assert feed([[2.0, 0.0]], [[False, True]]).tolist() == [3.25, 0.0]
    assert "returns" not in normalizer.state_dict()  # no part of a policy
