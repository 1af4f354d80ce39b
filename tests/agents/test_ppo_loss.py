"""PPO's loss by hand, and one update against Stable-Baselines3's own."""

from __future__ import annotations

import math
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import stable_baselines3
import torch
from echo import make_agent
from gymnasium import spaces
from stable_baselines3.common.logger import Logger
from torch import Tensor, nn

from rltrain.agents.parts.distributions import make_distribution
from rltrain.agents.parts.manual_grad import Back, by_autograd
from rltrain.agents.ppo.config import PPOConfig
from rltrain.agents.ppo.loss import Rows, Terms, imitation, metrics_of, normalized, ppo_loss


class Given(nn.Module):
    """A policy that says what it was told to."""

    def __init__(self, params: Tensor, value: Tensor) -> None:
        super().__init__()
        self.params, self.value = nn.Parameter(params), nn.Parameter(value)
        self.distribution = make_distribution(spaces.Discrete(2))

    def evaluate(self, obs: Tensor) -> tuple[tuple[Tensor, ...], Back]:
        return by_autograd(self.params, self.value)


def measured(
    policy: Any, batch: dict[str, Any], config: PPOConfig, clip_range_vf: float | None = None
) -> tuple[Tensor | None, dict[str, Tensor]]:
    """What there is to differentiate, and the metrics."""
    scalar, rows = ppo_loss(policy, batch, config, 0.2, clip_range_vf)
    terms = Terms(0.2)
    terms.add(rows)
    return scalar, metrics_of(terms.result()[:, 0], config)


# One row for each case of the clip at 0.2: above it with a good and a bad action, below it likewise, inside.
RATIO = [1.5, 1.5, 0.5, 0.5, 1.1]
ADVANTAGE = [2.0, -1.0, 2.0, -1.0, 3.0]
CHOSEN = [0.6, 0.3, 0.5, 0.2, 0.9]  # probability of the action taken, now
OLD_VALUE = [0.0, 0.0, 0.0, 1.0, 1.0]
VALUE = [0.1, 0.5, -0.5, 1.0, 0.8]
RETURNS = [1.0, 1.0, 1.0, 1.0, 0.0]


def tiny() -> tuple[Given, dict[str, Any]]:
    p = torch.tensor(CHOSEN)
    policy = Given(torch.stack([(1 - p).log(), p.log()], 1), torch.tensor(VALUE))
    batch = {
        "obs": torch.zeros(5, 1),
        "raw": torch.ones(5, dtype=torch.int64),
        "log_prob": p.log() - torch.tensor(RATIO).log(),
        "value": torch.tensor(OLD_VALUE),
        "advantage": torch.tensor(ADVANTAGE),
        "returns": torch.tensor(RETURNS),
    }
    return policy, batch


def test_every_term_by_hand() -> None:
    policy, batch = tiny()
    config = PPOConfig(normalize_advantage=False, ent_coef=0.01, vf_coef=0.7)
    _, metrics = measured(policy, batch, config)
    # min(A r, A clip(r)): 2 * 1.2, -1 * 1.5, 2 * 0.5, -1 * 0.8, 3 * 1.1
    policy_loss = -(2.4 - 1.5 + 1.0 - 0.8 + 3.3) / 5
    value_loss = (0.9**2 + 0.5**2 + 1.5**2 + 0.0 + 0.8**2) / 5
    entropy = sum(-p * math.log(p) - (1 - p) * math.log(1 - p) for p in CHOSEN) / 5
    kl = sum(r - 1 - math.log(r) for r in RATIO) / 5
    wanted = {
        "train/policy_gradient_loss": policy_loss,
        "train/value_loss": value_loss,
        "train/entropy_loss": -entropy,
        "train/loss": policy_loss - 0.01 * entropy + 0.7 * value_loss,
        "train/approx_kl": kl,
        "train/clip_fraction": 4 / 5,
    }
    assert {name: value.item() for name, value in metrics.items()} == pytest.approx(wanted, abs=1e-6)
    assert not any(value.requires_grad for value in metrics.values())


def test_the_gradient_is_cut_where_the_clip_is_active() -> None:
    policy, batch = tiny()
    scalar, _ = measured(policy, batch, PPOConfig(normalize_advantage=False, vf_coef=0.0))
    scalar.backward()
    # d/dlogit of -A r / 5 for the action taken is -A r (1 - p) / 5. Cut: too good above, too bad below.
    wanted = [0.0, 1.0 * 1.5 * 0.7 / 5, -2.0 * 0.5 * 0.5 / 5, 0.0, -3.0 * 1.1 * 0.1 / 5]
    assert policy.params.grad[:, 1].tolist() == pytest.approx(wanted, abs=1e-6)


def test_the_value_is_clipped_about_the_old_one() -> None:
    policy, batch = tiny()
    config = PPOConfig(normalize_advantage=False, vf_coef=1.0)
    scalar, metrics = measured(policy, batch, config, 0.3)
    # values 0.1, 0.5 -> 0.3, -0.5 -> -0.3, 1.0, 0.8
    wanted = (0.9**2 + 0.7**2 + 1.3**2 + 0.0 + 0.8**2) / 5
    assert metrics["train/value_loss"].item() == pytest.approx(wanted, abs=1e-6)
    scalar.backward()
    assert policy.value.grad.tolist() == pytest.approx([-2 * 0.9 / 5, 0.0, 0.0, 0.0, 2 * 0.8 / 5], abs=1e-6)


def test_advantages_are_normalized_in_the_minibatch() -> None:
    policy, batch = tiny()
    _, metrics = measured(policy, batch, PPOConfig())
    mean, std = np.mean(ADVANTAGE), np.std(ADVANTAGE, ddof=1)
    scaled = [(a - mean) / (std + 1e-8) for a in ADVANTAGE]
    terms = [min(a * r, a * min(max(r, 0.8), 1.2)) for a, r in zip(scaled, RATIO, strict=True)]
    assert metrics["train/policy_gradient_loss"].item() == pytest.approx(-sum(terms) / 5, abs=1e-6)


def test_one_row_is_not_normalized() -> None:
    policy, batch = tiny()
    single = Given(policy.params.data[:1], policy.value.data[:1])
    rows = {name: x[:1] for name, x in batch.items()}
    _, metrics = measured(single, rows, PPOConfig())
    assert metrics["train/policy_gradient_loss"].item() == pytest.approx(-2.4, abs=1e-6)
    assert metrics["train/loss"].isfinite()


class Nothing(gym.Env):
    """Only its spaces are needed."""

    def __init__(self, action_space: spaces.Space) -> None:
        self.observation_space = spaces.Box(-10.0, 10.0, (4,))
        self.action_space = action_space

    def reset(self, *, seed: int | None = None, options: dict | None = None) -> tuple[np.ndarray, dict]:
        return np.zeros(4, np.float32), {}


def in_their_names(policy: nn.Module) -> dict[str, Tensor]:
    """A copy of our parameters under the names of Stable-Baselines3."""
    parts = {
        "pi": "mlp_extractor.policy_net.",
        "vf": "mlp_extractor.value_net.",
        "action_head": "action_net.",
        "value_head": "value_net.",
        "distribution": "",
    }
    names = {name: name.split(".", 1) for name in policy.state_dict()}
    return {parts[names[name][0]] + names[name][1]: value.clone() for name, value in policy.state_dict().items()}


@pytest.mark.parametrize("clip_range_vf", [None, 0.1])
@pytest.mark.parametrize("action_space", [spaces.Discrete(3), spaces.Box(-1.0, 1.0, (2,))], ids=str)
def test_one_update_equals_stable_baselines3(action_space: spaces.Space, clip_range_vf: float | None) -> None:
    horizon, n = 16, 4
    settings = {
        "learning_rate": 1e-3,
        "n_steps": horizon,
        "batch_size": horizon * n,
        "ent_coef": 0.02,
        "vf_coef": 0.6,
        "clip_range": 0.15,
        "clip_range_vf": clip_range_vf,
        "max_grad_norm": 0.15,
    }
    ours = make_agent(
        spaces.Box(-10.0, 10.0, (4,)),
        action_space,
        num_envs=n,
        n_epochs=1,
        policy_kwargs={"net_arch": [64, 64], "log_std_init": -0.3},
        **settings,
    )
    envs = stable_baselines3.common.vec_env.DummyVecEnv([lambda: Nothing(action_space)] * n)
    theirs = stable_baselines3.PPO("MlpPolicy", envs, n_epochs=1, device="cpu", **settings)
    theirs.set_logger(Logger(folder=None, output_formats=[]))
    before = in_their_names(ours.policy)
    theirs.policy.load_state_dict(before)

    # A made-up rollout whose probabilities and values are off enough for both clips to be active.
    rng = torch.Generator().manual_seed(0)
    obs = torch.randn(horizon * n, 4, generator=rng)
    with torch.no_grad():
        params, value = ours.policy(obs)
        raw = ours.distribution.sample(params, ours.distribution.noise((horizon * n,), params.device, rng))
        log_prob, _ = ours.distribution.log_prob_entropy(params, raw)
    log_prob = log_prob + 0.3 * torch.randn(log_prob.shape, generator=rng)
    value = value + 0.3 * torch.randn(value.shape, generator=rng)
    advantage = torch.randn(value.shape, generator=rng)
    batch = {"obs": obs, "raw": raw, "log_prob": log_prob, "value": value, "advantage": advantage}
    batch["returns"] = advantage + value

    buffer = theirs.rollout_buffer
    for name, x in (
        ("observations", obs),
        ("actions", raw),
        ("values", value),
        ("log_probs", log_prob),
        ("advantages", advantage),
        ("returns", batch["returns"]),
    ):
        stored = getattr(buffer, name)
        stored[:] = x.numpy().reshape(stored.shape)
    buffer.full = True
    theirs.train()

    ours.prepare = lambda: batch
    metrics = ours.learn()
    logged = theirs.logger.name_to_value
    shared = ["policy_gradient_loss", "value_loss", "entropy_loss", "loss", "approx_kl", "clip_fraction", "clip_range"]
    shared += ["learning_rate", "explained_variance"]
    shared += ["clip_range_vf"] * (clip_range_vf is not None) + ["std"] * isinstance(action_space, spaces.Box)
    for name in shared:
        assert float(metrics[f"train/{name}"]) == pytest.approx(float(logged[f"train/{name}"]), abs=1e-5), name
    assert 0.1 < metrics["train/clip_fraction"] < 0.9
    assert metrics["train/grad_norm"] > settings["max_grad_norm"]  # the clip of the gradient is active

    after = in_their_names(ours.policy)
    for name, value in theirs.policy.state_dict().items():
        torch.testing.assert_close(after[name], value, rtol=0, atol=1e-5)
        assert (after[name] - before[name]).abs().max() > 1e-4


MASKED = spaces.Dict({"board": spaces.Box(-1.0, 1.0, (4,)), "action_mask": spaces.MultiBinary(3)})
VECTOR = spaces.Box(-1.0, 1.0, (4,))


@pytest.mark.parametrize(
    ("observation_space", "action_space", "settings"),
    [
        (VECTOR, spaces.Discrete(3), {}),
        (VECTOR, spaces.Discrete(3), {"ent_coef": 0.1, "normalize_advantage": False}),
        (VECTOR, spaces.Discrete(3), {"clip_range_vf": 0.1, "policy_kwargs": {"activation_fn": "relu"}}),
        (VECTOR, spaces.Box(-1.0, 1.0, (2,)), {"ent_coef": 0.1}),
        (VECTOR, spaces.Box(-1.0, 1.0, (2,)), {"ent_coef": 0.1, "policy_kwargs": {"squash_output": True}}),
        (VECTOR, spaces.MultiDiscrete([3, 2]), {"ent_coef": 0.1}),
        (VECTOR, spaces.MultiBinary(2), {}),
        (spaces.Discrete(5), spaces.Discrete(3), {"policy_kwargs": {"net_arch": []}}),
        (MASKED, spaces.Discrete(3), {"ent_coef": 0.1}),
        (VECTOR, spaces.MultiBinary(2), {"ent_coef": 0.1}),
        (VECTOR, spaces.Box(-1.0, 1.0, (2,)), {"ent_coef": 0.1, "policy_kwargs": {"activation_fn": "gelu"}}),
        (MASKED, spaces.Discrete(3), {"clip_range_vf": 0.1, "policy_kwargs": {"activation_fn": "gelu"}}),
        (spaces.Box(0, 1, (5, 5, 2)), spaces.MultiDiscrete([3, 2]), {"ent_coef": 0.1}),
    ],
    ids=str,
)
def test_the_loss_and_its_gradients_are_those_of_autograd(
    observation_space: spaces.Space, action_space: spaces.Space, settings: dict[str, Any]
) -> None:
    agent, rng = make_agent(observation_space, action_space, **settings), torch.Generator().manual_seed(0)
    policy, distribution, n = agent.policy, agent.distribution, 64
    with torch.no_grad():
        policy.action_head.weight.mul_(100.0)  # which is so small at first that all actions are alike
    if observation_space is MASKED:
        mask = torch.rand(n, 3, generator=rng) < 0.5
        mask[:, 0] |= ~mask.any(1)
        obs: Any = {"board": torch.randn(n, 4, generator=rng), "action_mask": mask.to(torch.int8)}
    elif isinstance(observation_space, spaces.Discrete):
        obs = torch.randint(5, (n,), generator=rng)
    else:
        obs = torch.randn(n, *observation_space.shape, generator=rng)
    with torch.no_grad():
        params, value = policy(obs)
        raw = distribution.sample(params, distribution.noise((n,), params.device, rng))
        log_prob, _ = distribution.log_prob_entropy(params, raw)
    batch = {
        "obs": obs,
        "raw": raw,
        "log_prob": log_prob + 0.3 * torch.randn(n, generator=rng),
        "value": value + 0.2 * torch.randn(n, generator=rng),
        "advantage": torch.randn(n, generator=rng),
        "returns": torch.randn(n, generator=rng),
    }
    config, clip_range_vf = agent.config, agent.config.clip_range_vf
    wanted = by_the_book(policy, batch, config, clip_range_vf)
    wanted.backward()
    grads = [parameter.grad.clone() for parameter in policy.parameters()]
    assert all(grad.abs().sum() > 0 for grad in grads)
    scalar, metrics = measured(policy, batch, config, clip_range_vf)
    assert (scalar is None) == (policy.stackable)
    if scalar is not None:
        policy.zero_grad()
        scalar.backward()
    assert 0.1 < metrics["train/clip_fraction"] < 0.9
    torch.testing.assert_close(metrics["train/loss"], wanted.detach())
    for parameter, grad in zip(policy.parameters(), grads, strict=True):
        torch.testing.assert_close(parameter.grad, grad, rtol=1e-4, atol=1e-6)


def by_the_book(policy: Any, batch: dict[str, Any], config: PPOConfig, clip_range_vf: float | None) -> Tensor:
    """Equation 9 of the paper."""
    params, value = policy(batch["obs"])
    log_prob, entropy = policy.distribution.log_prob_entropy(params, batch["raw"])
    advantage = batch["advantage"]
    if config.normalize_advantage:
        advantage = (advantage - advantage.mean()) / (advantage.std() + 1e-8)
    ratio = (log_prob - batch["log_prob"]).exp()
    surrogate = torch.minimum(advantage * ratio, advantage * ratio.clamp(0.8, 1.2))
    if clip_range_vf is not None:
        value = batch["value"] + (value - batch["value"]).clamp(-clip_range_vf, clip_range_vf)
    error = value - batch["returns"]
    return config.vf_coef * error.square().mean() - surrogate.mean() - config.ent_coef * entropy.mean()


def test_advantages_that_are_all_the_same_count_for_nothing() -> None:
    assert normalized(torch.full((7,), 3.0)).tolist() == [0.0] * 7
    advantage = torch.randn(3, 1000, generator=torch.Generator().manual_seed(0)) * torch.tensor([[1e-3], [1.0], [1e4]])
    exact = advantage.double()
    wanted = (exact - exact.mean(1, keepdim=True)) / (exact.std(1, keepdim=True) + 1e-8)
    torch.testing.assert_close(normalized(advantage), wanted.float(), rtol=1e-4, atol=1e-5)


def test_terms_of_many_minibatches_are_those_of_each() -> None:
    """Of any size, stacked or not."""
    rng = torch.Generator().manual_seed(0)
    parts = [Rows(*torch.randn(4, 2, size, generator=rng)) for size in (8, 8, 3, 8)]
    together = Terms(0.2)
    for part in parts:
        together.add(part)
    each = []
    for part in parts:
        alone = Terms(0.2)
        alone.add(part)
        each.append(alone.result())
    assert together.result().shape == (5, 4, 2)
    torch.testing.assert_close(together.result(), torch.cat(each, 1))


@pytest.mark.parametrize(
    "space", [spaces.Discrete(3), spaces.MultiDiscrete([2, 3]), spaces.MultiBinary(2), spaces.Box(-1, 1, (2,))], ids=str
)
def test_the_gradient_of_imitation_is_that_of_the_cross_entropy(space: spaces.Space) -> None:
    distribution = make_distribution(space, log_std_init=-0.5)
    rng = torch.Generator().manual_seed(0)
    params = torch.randn(6, distribution.size, generator=rng)
    taught = distribution.sample(params, distribution.noise((6,), torch.device("cpu"), rng)).detach()
    leaves = [params.clone().requires_grad_(), *distribution.parameters()]
    loss = -0.7 * distribution.log_prob_entropy(leaves[0], taught)[0].mean()
    wanted = torch.autograd.grad(loss, leaves)
    for parameter in distribution.parameters():
        parameter.grad = torch.full_like(parameter, 3.0)  # of the other terms of the loss
    by_params = imitation(distribution, params, taught, 0.7)
    torch.testing.assert_close(by_params, wanted[0], rtol=1e-4, atol=1e-6)
    for parameter, own in zip(distribution.parameters(), wanted[1:], strict=True):
        torch.testing.assert_close(parameter.grad, 3.0 + own, rtol=1e-4, atol=1e-6)


def test_a_teacher_adds_its_part_to_the_loss() -> None:
    torch.manual_seed(0)
    batch = {
        "obs": torch.zeros(4, 1),
        "raw": torch.tensor([0, 1, 0, 1]),
        "log_prob": torch.full((4,), -0.7),
        "advantage": torch.tensor([1.0, -1.0, 2.0, 0.5]),
        "returns": torch.zeros(4),
    }
    taught = torch.tensor([1, 1, 0, 1])
    params = torch.randn(4, 2)
    gradients = []
    for extra in ({}, {"taught": taught}):
        policy = Given(params.clone(), torch.zeros(4))
        scalar, _ = ppo_loss(policy, {**batch, **extra}, PPOConfig(), 0.2, None, 0.5)  # type: ignore[arg-type]
        assert scalar is not None
        scalar.backward()
        gradients.append(policy.params.grad)
    wanted = 0.5 / 4 * (params.softmax(-1) - nn.functional.one_hot(taught, 2))  # of cross-entropy, by hand
    torch.testing.assert_close(gradients[1] - gradients[0], wanted, rtol=1e-4, atol=1e-6)
