"""SAC's densities, targets and losses by hand, and whole updates against Stable-Baselines3's."""

from __future__ import annotations

import math
from typing import Any

import gymnasium as gym
import pytest
import stable_baselines3
import torch
from echo import make_agent
from gymnasium import spaces
from stable_baselines3.common.logger import Logger
from stable_baselines3.common.type_aliases import ReplayBufferSamples
from torch import Tensor, nn
from torch.distributions import Normal, TransformedDistribution
from torch.distributions.transforms import TanhTransform

from rltrain.agents.parts.critics import Critics
from rltrain.agents.parts.squashed import squashed_log_prob
from rltrain.agents.sac.agent import SAC
from rltrain.agents.sac.config import PolicyKwargs
from rltrain.agents.sac.loss import critic_loss, policy_loss, soft_target
from rltrain.agents.sac.policy import SquashedActor
from rltrain.sb3.translate import apart, from_sb3, to_sb3

ROWS, NUMBERS = 12, 2
VECTOR, BOX = spaces.Box(-1.0, 1.0, (3,)), spaces.Box(-2.0, 2.0, (NUMBERS,))


def rng(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, dtype=torch.float64, generator=rng(seed))


def make_actor(use_sde: bool = False, **kwargs: Any) -> SquashedActor:
    """A policy in float64."""
    torch.manual_seed(0)
    config = PolicyKwargs.model_validate({"net_arch": [16], **kwargs})
    actor = SquashedActor(VECTOR, BOX, config, use_sde=use_sde)
    actor.encoder = nn.Identity()  # which would round to float32
    return actor.double()


# Densities


def test_log_probabilities_and_their_gradients_are_those_of_torch() -> None:
    """Both by the path of the sample: through the action, the mean and the deviation."""
    actor, obs, noise = make_actor(), normal(ROWS, 3), normal(ROWS, NUMBERS, seed=1)
    action, log_prob = actor.sample(obs, noise)
    mean, log_std, _ = actor.gaussian(obs)
    reference = TransformedDistribution(Normal(mean, log_std.exp()), [TanhTransform()])
    expected = reference.log_prob((mean + log_std.exp() * noise).tanh()).sum(-1)
    torch.testing.assert_close(action, (mean + log_std.exp() * noise).tanh(), rtol=0, atol=1e-12)
    torch.testing.assert_close(log_prob, expected, rtol=0, atol=1e-9)
    weights = normal(ROWS, seed=2)
    parameters = list(actor.parameters())
    ours = torch.autograd.grad((log_prob * weights).sum(), parameters)
    for mine, other in zip(ours, torch.autograd.grad((expected * weights).sum(), parameters), strict=True):
        torch.testing.assert_close(mine, other, rtol=0, atol=1e-8)


def test_the_density_of_actions_is_one_in_all() -> None:
    action = torch.linspace(-1, 1, 200_001, dtype=torch.float64)[1:-1].unsqueeze(1)
    raw, mean, log_std = action.atanh(), 0.4, torch.tensor(-0.5, dtype=torch.float64)
    density = squashed_log_prob(raw, (raw - mean) / log_std.exp(), log_std.expand_as(raw)).exp()
    assert torch.trapezoid(density, action.squeeze(1)).item() == pytest.approx(1.0, abs=1e-4)


@pytest.mark.parametrize(("output", "log_std"), [(-50.0, -20.0), (50.0, 2.0), (0.5, 0.5)])
def test_the_log_deviation_has_bounds(output: float, log_std: float) -> None:
    actor = make_actor()
    actor.head.weight.data.zero_()
    actor.head.bias.data[NUMBERS:] = output
    assert actor.gaussian(normal(ROWS, 3))[1].unique().tolist() == [log_std]


def test_far_out_everything_is_finite() -> None:
    actor = make_actor().float()
    actor.head.bias.data[0], actor.head.bias.data[1] = 300.0, -300.0
    action, log_prob = actor.sample(normal(ROWS, 3).float(), normal(ROWS, NUMBERS).float())
    log_prob.sum().backward()
    assert action.abs().eq(1).all()
    assert log_prob.isfinite().all()
    assert all(parameter.grad.isfinite().all() for parameter in actor.parameters())


@pytest.mark.parametrize("use_expln", [False, True])
def test_state_dependent_noise_is_linear_in_the_features(use_expln: bool) -> None:
    """Raffin et al. (2021): noise W f(s) with independent weights W has the variance f(s)^2 sigma^2."""
    actor, obs = make_actor(use_sde=True, use_expln=use_expln, log_std_init=0.3), normal(ROWS, 3)
    mean, log_std, features = actor.gaussian(obs)
    std = 1 + math.log(1 + 0.3) if use_expln else math.exp(0.3)
    expected = (std * features.norm(dim=1, keepdim=True)).expand(-1, NUMBERS)
    torch.testing.assert_close(log_std.exp(), expected, rtol=1e-6, atol=1e-6)
    matrices = normal(ROWS, 16, NUMBERS, seed=1)
    action, log_prob = actor.sample(obs, matrices)
    for row in range(ROWS):  # each row with its own matrix, or all with one
        raw = mean[row] + std * features[row] @ matrices[row]
        torch.testing.assert_close(action[row], raw.tanh())
        expected = Normal(mean[row], log_std[row].exp()).log_prob(raw) - (1 - raw.tanh().square()).log()
        torch.testing.assert_close(log_prob[row], expected.sum())
        alone, density = actor.sample(obs, matrices[row : row + 1])
        torch.testing.assert_close((alone[row], density[row]), (action[row], log_prob[row]))


def test_a_mean_with_state_dependent_noise_is_clipped() -> None:
    actor = make_actor(use_sde=True, clip_mean=1.5)
    actor.head.bias.data[:] = torch.tensor([10.0, -10.0])
    assert actor.gaussian(normal(1, 3))[0].tolist() == [[1.5, -1.5]]


# Targets and losses


class GivenActor:
    """A policy that does what it was told to."""

    def __init__(self, action: Tensor, log_prob: Tensor) -> None:
        self.told = action, log_prob

    def sample(self, obs: Tensor, noise: Tensor) -> tuple[Tensor, Tensor]:
        return self.told


class GivenCritics:
    """Critics that say what they were told to, if they are asked about the right action."""

    def __init__(self, values: Tensor, action: Tensor) -> None:
        self.values, self.action = values, action

    def __call__(self, obs: Tensor, action: Tensor, **options: Any) -> Tensor:
        assert torch.equal(action, self.action)
        return self.values


def random_batch() -> dict[str, Tensor]:
    return {
        "obs": normal(ROWS, 3),
        "next_obs": normal(ROWS, 3, seed=1),
        "reward": normal(ROWS, seed=2),
        "discount": torch.tensor([0.9, 0.81, 0.729], dtype=torch.float64).repeat(4),  # some reach further than others
        "terminated": torch.arange(ROWS) % 3 == 0,
        "weight": torch.rand(ROWS, dtype=torch.float64, generator=rng(3)),
        "noise": normal(ROWS, NUMBERS, seed=4),
        "next_noise": normal(ROWS, NUMBERS, seed=5),
    }


@pytest.mark.parametrize("k", [1, 5])
@pytest.mark.parametrize("critics", [1, 2, 3])
def test_targets_are_those_of_a_loop(critics: int, k: int) -> None:
    """r + gamma^n (lowest Q(s', a') - alpha log pi(a' | s')), and r alone after a termination."""
    batch, ent_coef = random_batch(), torch.tensor([0.3], dtype=torch.float64)
    action, log_prob = normal(ROWS, NUMBERS, seed=6), normal(ROWS, seed=7)
    values = normal(critics, ROWS, k, seed=8)
    values[:, batch["terminated"]] = torch.nan  # nobody may look there
    given: Any = GivenActor(action, log_prob), GivenCritics(values.squeeze(2) if k == 1 else values, action)
    target = soft_target(*given, batch, ent_coef).view(ROWS, k)
    for row in range(ROWS):
        chosen = min(range(critics), key=lambda critic: values[critic, row].mean().item())
        for quantile in range(k):
            wanted = batch["reward"][row].item()
            if not batch["terminated"][row]:
                soft = values[chosen, row, quantile].item() - 0.3 * log_prob[row].item()
                wanted += batch["discount"][row].item() * soft
            assert target[row, quantile].item() == pytest.approx(wanted, abs=1e-12)


def test_the_critics_loss_is_that_of_a_loop() -> None:
    """The sum over the critics of half the weighted mean squared error, as in Stable-Baselines3."""
    predicted, target, weight = normal(2, ROWS), normal(ROWS, seed=1), random_batch()["weight"]
    wanted = 0.0
    for critic in range(2):
        for row in range(ROWS):
            wanted += 0.5 * weight[row].item() * (predicted[critic, row] - target[row]).item() ** 2 / ROWS
    assert critic_loss(predicted, target, weight).item() == pytest.approx(wanted, abs=1e-12)


def test_the_loss_of_quantiles_is_that_of_a_loop() -> None:
    """Dabney et al. (2018), equation 10: |tau - 1{u < 0}| huber(u), over all pairs."""
    k, predicted, target = 3, normal(2, ROWS, 3), 2 * normal(ROWS, 3, seed=1)
    weight, wanted = random_batch()["weight"], 0.0
    for critic in range(2):
        for row in range(ROWS):
            for i in range(k):
                for j in range(k):
                    u = (target[row, j] - predicted[critic, row, i]).item()
                    huber = u * u / 2 if abs(u) <= 1 else abs(u) - 0.5
                    wanted += weight[row].item() * abs((i + 0.5) / k - (u < 0)) * huber / k / ROWS
    assert critic_loss(predicted, target, weight).item() == pytest.approx(wanted, abs=1e-6)


def test_the_policys_loss_is_that_of_a_loop() -> None:
    """Mean of w (alpha log pi - lowest Q), by the present critics, whose parameters get no gradient."""
    actor, batch, ent_coef = make_actor(), random_batch(), torch.tensor([0.3], dtype=torch.float64)
    critics = Critics(VECTOR, NUMBERS, PolicyKwargs(), [8], n_critics=2)
    critics.encoder = nn.Identity()
    critics.double()
    loss, log_prob = policy_loss(actor, critics, batch, ent_coef)
    action, expected = actor.sample(batch["obs"], batch["noise"])
    torch.testing.assert_close(log_prob, expected)
    values, wanted = critics(batch["obs"], action), torch.zeros((), dtype=torch.float64)
    for row in range(ROWS):
        lowest = values[0, row] if values[0, row] < values[1, row] else values[1, row]
        wanted = wanted + batch["weight"][row] * (0.3 * expected[row] - lowest) / ROWS
    torch.testing.assert_close(loss, wanted)
    parameters = list(actor.parameters())
    for mine, other in zip(
        torch.autograd.grad(loss, parameters, retain_graph=True), torch.autograd.grad(wanted, parameters), strict=True
    ):
        torch.testing.assert_close(mine, other)
    loss.backward()
    assert all(parameter.grad is None for parameter in critics.parameters())


def test_critics_side_by_side_are_as_many_networks() -> None:
    """Each is a perceptron of (features, action), with initial weights like those of ``nn.Linear``."""
    torch.manual_seed(0)
    critics = Critics(VECTOR, NUMBERS, PolicyKwargs(), [300, 200], n_critics=3, layer_norm=True)
    obs, action = torch.randn(5, 3), torch.randn(5, NUMBERS)
    together = critics(obs, action)
    for critic in range(3):
        x = torch.cat((obs, action), 1)
        for i, layer in enumerate(critics.layers):
            bound = layer.weight.shape[2] ** -0.5
            assert layer.weight.abs().max() <= bound
            assert layer.weight.std().item() == pytest.approx(bound / 3**0.5, rel=0.1)
            x = torch.nn.functional.linear(x, layer.weight[critic], layer.bias[critic, 0])
            if i < 2:
                x = torch.nn.functional.layer_norm(x, x.shape[1:]).relu()
        torch.testing.assert_close(together[critic], x.squeeze(1), rtol=1e-4, atol=1e-5)
    assert together.std(0).min() > 0  # none is a copy of another


# Against Stable-Baselines3


def theirs(agent: SAC, **settings: Any) -> Any:
    """Its SAC with the same weights."""
    env = gym.make("Pendulum-v1")
    kwargs = {"net_arch": [16, 8], "log_std_init": -1.0} if agent.config.use_sde else {"net_arch": [16, 8]}
    model = stable_baselines3.SAC("MlpPolicy", env, device="cpu", policy_kwargs=kwargs, **settings)
    model.set_logger(Logger(None, []))
    model.policy.load_state_dict(to_sb3("sac", apart(agent.state_dict(), clip_mean=True), 0))
    return model


def drawn(*shape: int) -> Tensor:
    """What ``Normal.rsample`` of torch draws."""
    return torch.normal(torch.zeros(shape), torch.ones(shape))


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"ent_coef": "auto_0.2", "target_entropy": -3.0, "tau": 0.3},
        {"ent_coef": 0.1, "learning_rate": 1e-2},
        {"use_sde": True},
    ],
    ids=["defaults", "auto_0.2", "fixed", "sde"],
)
def test_updates_are_those_of_stable_baselines3(settings: dict[str, Any]) -> None:
    """Losses, gradients (Adam's first moments), weights, targets and temperature over three updates."""
    observation_space, action_space = spaces.Box(-8.0, 8.0, (3,)), spaces.Box(-2.0, 2.0, (1,))
    kwargs = {"net_arch": [16, 8], "log_std_init": -1.0}
    options = {"learning_rate": 3e-4, "batch_size": 256, "tau": 0.005, **settings}
    agent = make_agent(observation_space, action_space, kind=SAC, policy_kwargs=kwargs, **options)
    model = theirs(agent, **settings)
    size = 64
    for update in range(3):
        generator = rng(update)
        obs, next_obs = (2 * torch.randn(size, 3, generator=generator) for _ in range(2))
        action = 2 * torch.rand(size, 1, generator=generator) - 1
        reward, done = torch.randn(size, generator=generator), torch.rand(size, generator=generator) < 0.2
        discount = torch.where(torch.rand(size, generator=generator) < 0.5, 0.99, 0.99**3)
        columns = (x.float().unsqueeze(1) for x in (done, reward, discount))
        samples = ReplayBufferSamples(obs, action, next_obs, *columns)
        model.replay_buffer.sample = lambda *_, samples=samples, **__: samples
        torch.manual_seed(update)
        model.train(1, size)
        torch.manual_seed(update)
        batch = {"obs": obs, "next_obs": next_obs, "action": action, "reward": reward, "terminated": done}
        batch |= {"discount": discount, "weight": torch.ones(size)}
        if agent.config.use_sde:
            batch["noise"] = batch["next_noise"] = drawn(1, 8, 1)
            metrics = agent._learn_critics(batch, 3e-4) | agent._learn_policy(batch, 3e-4)
        else:
            batch["noise"], batch["next_noise"] = drawn(size, 1), drawn(size, 1)
            agent.n_updates += 1
            metrics = agent.update(batch, agent.config.learning_rate).metrics
        agent._move_targets(1)
        said = model.logger.name_to_value
        learned = ["ent_coef_loss"] if agent.log_ent_coef is not None else []
        for tag in ("critic_loss", "actor_loss", "ent_coef", *learned):
            assert metrics[f"train/{tag}"].item() == pytest.approx(said[f"train/{tag}"], rel=1e-4, abs=1e-5), tag
        state = agent.state_dict()
        mine = from_sb3("sac", model.policy.state_dict())
        for name, tensor in mine.items():
            assert torch.allclose(state[name], tensor, rtol=1e-4, atol=0.01 * agent.config.learning_rate), name
        for optimizer, network in ((agent.policy_optimizer, "actor"), (agent.critic_optimizer, "critic")):
            their_optimizer = getattr(model, network).optimizer
            moments = [their_optimizer.state[p]["exp_avg"] for p in getattr(model, network).parameters()]
            squares = sum(float(moment.square().sum()) for moment in moments)
            assert float(optimizer.state_dict()["exp_avg"].square().sum()) == pytest.approx(squares, rel=1e-3)
        if agent.log_ent_coef is not None:
            torch.testing.assert_close(agent.log_ent_coef.data, model.log_ent_coef.data, rtol=1e-4, atol=1e-6)
