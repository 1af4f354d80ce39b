"""Distributions against torch.distributions, and their samples against their probabilities."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from gymnasium import spaces
from torch import Tensor
from torch.distributions import Bernoulli, Categorical, Independent, Normal, TanhTransform, TransformedDistribution

from rltrain.agents.parts.distributions import make_distribution
from rltrain.errors import ConfigError

CPU = torch.device("cpu")
DISCRETE = spaces.Discrete(4)
MULTI = spaces.MultiDiscrete([3, 2, 5])
BINARY = spaces.MultiBinary(4)
BOX = spaces.Box(np.array([-1.0, -2.0, 0.0], np.float32), np.array([1.0, 0.5, 3.0], np.float32))


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def draw(distribution, params: Tensor, n: int, seed: int = 0) -> Tensor:
    """``n`` raw samples for every row of ``params``: (n, B, ...)."""
    noise = distribution.noise((n, params.shape[0]), CPU, generator(seed))
    return distribution.sample(params, noise)


def reference(space: spaces.Space, params: Tensor, log_std: Tensor | None) -> list:
    """torch's own distributions; several where the parts of an action are independent."""
    if isinstance(space, spaces.Discrete):
        return [Categorical(logits=params)]
    if isinstance(space, spaces.MultiDiscrete):
        return [Categorical(logits=part) for part in params.split([int(n) for n in space.nvec], -1)]
    if isinstance(space, spaces.MultiBinary):
        return [Independent(Bernoulli(logits=params), 1)]
    return [Independent(Normal(params, log_std.exp().expand_as(params)), 1)]


@pytest.mark.parametrize("entropy_grad", [0.0, -0.3])
@pytest.mark.parametrize("squash", [False, True])
@pytest.mark.parametrize("space", [DISCRETE, MULTI, BINARY, BOX], ids=str)
def test_backward_is_autograds(space: spaces.Space, squash: bool, entropy_grad: float) -> None:
    distribution = make_distribution(space, log_std_init=-0.5, squash=squash)
    params = 2.0 * torch.randn(32, distribution.size, generator=generator())
    raw, log_prob_grad = draw(distribution, params, 1)[0].detach(), torch.randn(32, generator=generator(1))
    leaves = [params.clone().requires_grad_(), *distribution.parameters()]
    log_prob, entropy = distribution.log_prob_entropy(leaves[0], raw)
    wanted = torch.autograd.grad((log_prob * log_prob_grad + entropy_grad * entropy).sum(), leaves)
    for parameter in distribution.parameters():
        parameter.grad = torch.full_like(parameter, 7.0)
    grads = [distribution.backward(params, raw, log_prob_grad, entropy_grad), *(p.grad for p in leaves[1:])]
    for mine, autograds in zip(grads, wanted, strict=True):
        torch.testing.assert_close(mine, autograds, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("space", [DISCRETE, MULTI, BINARY, BOX], ids=str)
def test_log_prob_and_entropy_equal_torch(space: spaces.Space) -> None:
    distribution = make_distribution(space)
    if isinstance(space, spaces.Box):
        distribution.log_std.data = torch.tensor([-0.5, 0.0, 0.7])
    params = 2.0 * torch.randn(64, distribution.size, generator=generator())
    raw = draw(distribution, params, 1)[0]
    parts = reference(space, params, getattr(distribution, "log_std", None))
    columns = raw.unbind(-1) if isinstance(space, spaces.MultiDiscrete) else [raw]
    log_prob, entropy = distribution.log_prob_entropy(params, raw)
    assert log_prob.shape == entropy.shape == (64,)
    wanted = sum(part.log_prob(x.to(params.dtype)) for part, x in zip(parts, columns, strict=True))
    torch.testing.assert_close(log_prob, wanted, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(entropy, sum(part.entropy() for part in parts), rtol=1e-5, atol=1e-5)


def test_leading_dimensions_are_free() -> None:
    """A rollout (T, N, P) is scored as its rows are."""
    for space in (DISCRETE, MULTI, BINARY, BOX):
        distribution = make_distribution(space)
        params = torch.randn(5, 3, distribution.size, generator=generator())
        raw = distribution.sample(params, distribution.noise((5, 3), CPU, generator(1)))
        whole = torch.stack(distribution.log_prob_entropy(params, raw))
        rows = torch.stack(distribution.log_prob_entropy(params.flatten(0, 1), raw.flatten(0, 1)))
        torch.testing.assert_close(whole.flatten(1), rows)


def test_squashed_log_prob_equals_torch() -> None:
    distribution = make_distribution(BOX, squash=True, log_std_init=-0.3)
    params = torch.randn(256, 3, generator=generator(), dtype=torch.float64)
    raw = draw(distribution, params, 1)[0].clamp(-3, 3)
    normal = Normal(params, distribution.log_std.detach().double().exp())
    squashed = TransformedDistribution(normal, [TanhTransform()])
    log_prob, entropy = distribution.log_prob_entropy(params, raw)
    torch.testing.assert_close(log_prob, squashed.log_prob(raw.tanh()).sum(-1), rtol=1e-6, atol=1e-6)
    assert torch.equal(entropy, -log_prob)  # one sample's estimate, as Stable-Baselines3 takes it


def test_squashed_density_is_one_in_all() -> None:
    """The density over (-1, 1), integrated by the trapezoidal rule: no reference to trust."""
    distribution = make_distribution(spaces.Box(-1, 1, (1,)), squash=True, log_std_init=-0.2)
    action = torch.linspace(-1 + 1e-6, 1 - 1e-6, 200_001, dtype=torch.float64).unsqueeze(1)
    log_prob, _ = distribution.log_prob_entropy(torch.full_like(action, 0.4), action.atanh())
    assert torch.trapezoid(log_prob.exp(), action.squeeze(1)).item() == pytest.approx(1.0, abs=1e-4)


def test_squashed_log_prob_is_finite_far_out() -> None:
    distribution = make_distribution(spaces.Box(-1, 1, (1,)), squash=True)
    raw = torch.tensor([[-40.0], [40.0]])
    log_prob, _ = distribution.log_prob_entropy(raw, raw)
    # log(1 - tanh(x)^2) tends to log 4 - 2 |x|
    torch.testing.assert_close(log_prob, torch.full((2,), -0.5 * math.log(2 * math.pi) - math.log(4.0) + 80.0))


def chi_square(counts: np.ndarray, probabilities: np.ndarray) -> float:
    expected = counts.sum() * probabilities
    return float(((counts - expected) ** 2 / expected).sum())


# The 99.9% points of chi-square with 1 to 4 degrees of freedom.
CHI_SQUARE_999 = {1: 10.83, 2: 13.82, 3: 16.27, 4: 18.47}


def test_samples_have_their_frequencies() -> None:
    n = 40_000
    for space in (DISCRETE, MULTI, BINARY):
        distribution = make_distribution(space)
        params = torch.randn(1, distribution.size, generator=generator(3))
        raw = draw(distribution, params, n, seed=4)[:, 0].view(n, -1)
        if isinstance(space, spaces.MultiBinary):
            probabilities = [torch.stack([1 - p, p]) for p in params[0].sigmoid()]
        else:
            sizes = [4] if space is DISCRETE else [3, 2, 5]
            probabilities = [part.softmax(-1) for part in params[0].split(sizes)]
        for column, p in zip(raw.unbind(1), probabilities, strict=True):
            counts = np.bincount(column.numpy(), minlength=len(p))
            assert len(counts) == len(p)
            assert chi_square(counts, p.numpy().astype(np.float64)) < CHI_SQUARE_999[len(p) - 1]
        # The test would see a wrong distribution.
        wrong = np.full(len(p), 1.0 / len(p))
        assert chi_square(counts, wrong) > 100


def test_gaussian_samples_have_their_moments() -> None:
    distribution = make_distribution(BOX)
    distribution.log_std.data = torch.tensor([-1.0, 0.0, 0.5])
    mean = torch.tensor([[1.0, -3.0, 0.2]])
    raw = draw(distribution, mean, 100_000)[:, 0].detach()
    std = distribution.log_std.detach().exp()
    assert ((raw.mean(0) - mean[0]).abs() < 4 * std / 100_000**0.5).all()
    assert ((raw.std(0) / std - 1).abs() < 4 / 200_000**0.5).all()
    assert (torch.corrcoef(raw.T) - torch.eye(3)).abs().max() < 4 / 100_000**0.5


@pytest.mark.parametrize("shape", [(3_000_000,), (1, 5)], ids=str)
def test_gumbel_noise_is_finite(shape: tuple[int, ...]) -> None:
    """An infinite one would choose a forbidden action; two would make NaN of a coin."""
    rng = generator()
    for _ in range(1 if len(shape) == 1 else 500):
        noise = make_distribution(spaces.Discrete(shape[-1])).noise(shape[:-1], CPU, rng)
        assert noise.isfinite().all()
        assert noise.max() < 1e3  # far below what a mask takes away


def test_gumbel_noise_is_gumbel() -> None:
    noise = make_distribution(spaces.Discrete(400_000)).noise((), CPU, generator())
    assert noise.mean().item() == pytest.approx(0.5772157, abs=0.01)
    assert noise.var().item() == pytest.approx(math.pi**2 / 6, rel=0.02)


@pytest.mark.parametrize("squash", [False, True], ids=["clip", "squash"])
@pytest.mark.parametrize(
    "space",
    [
        spaces.Discrete(3, start=-1),
        spaces.MultiDiscrete([2, 3], start=[5, -7]),
        BINARY,
        BOX,
        spaces.Box(-0.5, 0.25, (2, 3)),
        spaces.Box(-1.0, 1.0, ()),
    ],
    ids=str,
)
def test_actions_are_inside_the_space(space: spaces.Space, squash: bool) -> None:
    distribution = make_distribution(space, squash=squash, log_std_init=1.0)
    params = 2.0 * torch.randn(200, distribution.size, generator=generator())
    for raw in (draw(distribution, params, 1)[0], distribution.mode(params)):
        actions = distribution.to_env(raw).detach().numpy()
        assert actions.shape == (200, *space.shape)
        assert all(space.contains(np.asarray(action, space.dtype)) for action in actions)
    noise = distribution.noise((4, 50), CPU, generator())
    assert distribution.to_env(distribution.sample(params.view(4, 50, -1), noise)).shape == (4, 50, *space.shape)


def test_starts_reach_every_action() -> None:
    """Start is added on the way to the environment and only there."""
    distribution = make_distribution(spaces.Discrete(3, start=-1))
    raw = draw(distribution, torch.zeros(1, 3), 500)
    assert set(raw.unique().tolist()) == {0, 1, 2}
    assert set(distribution.to_env(raw).unique().tolist()) == {-1, 0, 1}
    distribution = make_distribution(spaces.MultiDiscrete([2, 3], start=[5, -7]))
    actions = distribution.to_env(draw(distribution, torch.zeros(1, 5), 500)).view(-1, 2)
    assert [sorted(set(column.tolist())) for column in actions.T] == [[5, 6], [-7, -6, -5]]


def test_the_environment_sees_clipped_actions_and_learning_raw_ones() -> None:
    distribution = make_distribution(BOX)
    raw = torch.tensor([[2.0, -9.0, 1.0]])
    assert distribution.to_env(raw).tolist() == [[1.0, -2.0, 1.0]]
    inside = torch.tensor([[1.0, -2.0, 1.0]])
    params = torch.zeros(1, 3)
    assert distribution.log_prob_entropy(params, raw)[0] < distribution.log_prob_entropy(params, inside)[0] - 1
    samples = draw(distribution, params, 1000)
    assert (samples > distribution.high).any()  # sampling itself clips nothing


def test_squashed_actions_fill_the_bounds() -> None:
    distribution = make_distribution(BOX, squash=True)
    raw = torch.tensor([[-50.0] * 3, [0.0] * 3, [50.0] * 3])
    wanted = np.stack([BOX.low, (BOX.low + BOX.high) / 2, BOX.high])
    np.testing.assert_allclose(distribution.to_env(raw), wanted, atol=1e-6)


def test_modes_are_the_most_likely_actions() -> None:
    for space in (DISCRETE, MULTI, BINARY, BOX):
        distribution = make_distribution(space)
        params = torch.randn(1, distribution.size, generator=generator(5))
        best, _ = distribution.log_prob_entropy(params, distribution.mode(params))
        others, _ = distribution.log_prob_entropy(params.expand(2000, -1), draw(distribution, params, 2000)[:, 0])
        assert (others <= best + 1e-6).all()
        assert (others < best - 0.1).any()


def test_what_cannot_be_acted_in_is_refused() -> None:
    unbounded = spaces.Box(-np.inf, np.inf, (2,))
    half = spaces.Box(np.array([0.0, -1.0], np.float32), np.array([np.inf, 1.0], np.float32))
    make_distribution(unbounded)  # unsquashed there is nothing wrong with it
    for space in (unbounded, half):
        with pytest.raises(ConfigError, match="unbounded"):
            make_distribution(space, squash=True)
    for space in (
        spaces.Box(0, 5, (2,), np.int64),
        spaces.MultiDiscrete([[2, 2], [2, 2]]),
        spaces.MultiBinary((2, 2)),
        spaces.Text(3),
        spaces.Dict({"a": DISCRETE}),
        spaces.Tuple([DISCRETE]),
    ):
        with pytest.raises(ConfigError) as error:
            make_distribution(space)
        assert error.value.fix


@pytest.mark.parametrize("squash", [False, True])
@pytest.mark.parametrize(
    "space", [spaces.Discrete(4, start=-2), spaces.MultiDiscrete([3, 2], start=[5, -1]), BINARY, BOX], ids=str
)
def test_from_env_is_the_inverse_of_to_env(space: spaces.Space, squash: bool) -> None:
    distribution = make_distribution(space, log_std_init=-1.0, squash=squash)
    raw = draw(distribution, 0.1 * torch.randn(16, distribution.size, generator=generator()), 3)
    action = distribution.to_env(raw)
    torch.testing.assert_close(distribution.to_env(distribution.from_env(action)), action, rtol=1e-5, atol=1e-6)
    assert distribution.from_env(action).shape == raw.shape
    if not isinstance(space, spaces.Box) or squash:
        torch.testing.assert_close(distribution.from_env(action), raw, rtol=1e-3, atol=1e-4)


def test_a_squashed_action_on_its_bound_is_finite() -> None:
    distribution = make_distribution(BOX, squash=True)
    raw = distribution.from_env(torch.stack([torch.as_tensor(BOX.low), torch.as_tensor(BOX.high)]))
    assert raw.isfinite().all()
    assert (raw.abs() > 5.0).all()
