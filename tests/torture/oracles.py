"""Formulas of the agents against loops over Python's numbers, which are float64, for random cases of random sizes.

Each check takes an example and a type, computes both, and returns how far apart they are: the largest difference, over
the largest number of the loops or 1. The loops are given the numbers as the type has rounded them.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from gymnasium import spaces
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from rltrain.agents.dqn.loss import td_loss, td_target
from rltrain.agents.parts.distributions import make_distribution
from rltrain.agents.parts.manual_grad import Back, by_autograd
from rltrain.agents.parts.q_network import at_action
from rltrain.agents.parts.replay import Batch, PrioritizedReplay, Replay
from rltrain.agents.parts.returns import generalized_advantage, lambda_returns
from rltrain.agents.ppo.config import PPOConfig
from rltrain.agents.ppo.loss import ppo_loss
from rltrain.agents.pqn.agent import td_loss as pqn_loss
from rltrain.vec import VecStep

BOUNDS = {torch.float64: 1e-9, torch.float32: 1e-5}
CPU = torch.device("cpu")


@dataclass(frozen=True)
class Example:
    """What a case is made from."""

    rows: int
    columns: int
    gamma: float
    lambda_: float
    ends: float  # the chance of a termination, and of a truncation, in a step
    size: float  # of the numbers
    seed: int

    def rng(self) -> np.random.Generator:
        """Everything else that is random."""
        return np.random.default_rng(self.seed)


SHARES = st.sampled_from([0.0, 0.5, 0.9, 0.99, 1.0]) | st.floats(0.0, 1.0)
EXAMPLES = st.builds(
    Example,
    rows=st.integers(1, 24),
    columns=st.integers(1, 6),
    gamma=SHARES,
    lambda_=SHARES,
    ends=st.sampled_from([0.0, 0.1, 0.4, 1.0]),
    size=st.sampled_from([1e-3, 1.0, 30.0, 1e3]),
    seed=st.integers(0, 2**32 - 1),
)


def hold(check: Callable[[Example, torch.dtype], float], examples: int, first: int) -> dict[str, float]:
    """Tries a check on many examples in both types; the largest errors.

    Raises:
        AssertionError: One is above its bound; with the smallest example for which that is so.
    """
    worst = {"float64": 0.0, "float32": 0.0}

    @seed(first)
    @settings(
        max_examples=examples,
        database=None,
        deadline=None,
        phases=[Phase.generate, Phase.shrink],
        suppress_health_check=list(HealthCheck),
    )
    @given(EXAMPLES)
    def run(example: Example) -> None:
        for dtype, bound in BOUNDS.items():
            torch.set_default_dtype(dtype)  # of what is allocated without a type, such as a replay
            error, name = check(example, dtype), str(dtype).removeprefix("torch.")
            assert error <= bound, f"{check.__name__} in {name} is off by {error:.1e} > {bound:g} for {example}"
            worst[name] = max(worst[name], error)

    try:
        run()
    finally:
        torch.set_default_dtype(torch.float32)
    return {**worst, "examples": float(examples)}


def apart(ours: Tensor | Sequence[Any], theirs: Any) -> float:
    """The largest difference, over the largest number or 1; infinite where one is not finite."""
    a, b = (np.asarray(x.detach().tolist() if isinstance(x, Tensor) else x, dtype=np.float64) for x in (ours, theirs))
    assert a.shape == b.shape, (a.shape, b.shape)
    if not (np.isfinite(a).all() and np.isfinite(b).all()):
        return math.inf
    return float(np.abs(a - b).max(initial=0.0) / max(1.0, np.abs(b).max(initial=0.0)))


def ends_of(example: Example, rng: np.random.Generator, shape: tuple[int, ...]) -> tuple[Tensor, Tensor]:
    """Terminations and truncations."""
    terminated = rng.random(shape) < example.ends
    truncated = (rng.random(shape) < example.ends) & ~terminated
    return torch.from_numpy(terminated), torch.from_numpy(truncated)


# Returns


def advantages(example: Example, dtype: torch.dtype) -> float:
    """Schulman et al. (2016), equation 16."""
    rng, shape = example.rng(), (example.rows, example.columns)
    reward, value, after = (torch.tensor(example.size * rng.normal(size=shape), dtype=dtype) for _ in range(3))
    terminated, truncated = ends_of(example, rng, shape)
    after[terminated] = torch.nan
    ours = generalized_advantage(
        reward, value, after, terminated, truncated, gamma=example.gamma, gae_lambda=example.lambda_
    )
    r, v, n, ended, cut = (x.tolist() for x in (reward, value, after, terminated, truncated))
    theirs = np.zeros(shape)
    for i in range(example.columns):
        ahead = 0.0
        for t in reversed(range(example.rows)):
            future = 0.0 if ended[t][i] else example.gamma * n[t][i]
            ahead = 0.0 if ended[t][i] or cut[t][i] else example.gamma * example.lambda_ * ahead
            ahead += r[t][i] + future - v[t][i]
            theirs[t, i] = ahead
    return apart(ours, theirs)


def returns(example: Example, dtype: torch.dtype) -> float:
    """Gallici et al. (2024), equation 2."""
    rng, shape = example.rng(), (example.rows, example.columns)
    reward, after = (torch.tensor(example.size * rng.normal(size=shape), dtype=dtype) for _ in range(2))
    terminated, truncated = ends_of(example, rng, shape)
    after[terminated] = torch.nan
    ours = lambda_returns(reward, after, terminated, truncated, gamma=example.gamma, q_lambda=example.lambda_)
    r, n, ended, cut = (x.tolist() for x in (reward, after, terminated, truncated))
    theirs = np.zeros(shape)
    for i in range(example.columns):
        ahead = 0.0
        for t in reversed(range(example.rows)):
            if ended[t][i]:
                future = 0.0
            elif cut[t][i] or t == example.rows - 1:
                future = n[t][i]
            else:
                future = example.lambda_ * ahead + (1.0 - example.lambda_) * n[t][i]
            ahead = theirs[t, i] = r[t][i] + example.gamma * future
    return apart(ours, theirs)


# Replay


@dataclass
class Event:
    """A step. Observations are numbers that never come twice."""

    seen: int
    reward: float
    led_to: int
    terminated: bool
    truncated: bool


def played(example: Example, replay: Replay, dtype: torch.dtype) -> list[list[Event]]:
    """Lets a replay record random episodes; those of each environment."""
    rng, n = example.rng(), replay.num_envs
    events: list[list[Event]] = [[] for _ in range(n)]
    number = n
    now = list(range(n))
    for _ in range(example.rows):
        reward = torch.tensor(example.size * rng.normal(size=n), dtype=dtype)
        terminated, truncated = ends_of(example, rng, (n,))
        led_to = list(range(number, number + n))
        first = [number + n + i if terminated[i] or truncated[i] else led_to[i] for i in range(n)]
        number += 2 * n
        rows = zip(now, reward.tolist(), led_to, terminated.tolist(), truncated.tolist(), strict=True)
        for i, row in enumerate(rows):
            events[i].append(Event(*row))
        nothing = torch.zeros(n)
        replay.begin(torch.tensor(now).view(n, 1))
        replay.add(
            torch.tensor(now) % 5,
            VecStep(
                torch.tensor(first).view(n, 1),
                reward,
                terminated,
                truncated,
                torch.tensor(led_to).view(n, 1),
                nothing,
                nothing,
                {},
            ),
        )
        now = first
    return events


def fates(example: Example, events: list[list[Event]], n_steps: int) -> dict[int, tuple[float, float, int, bool]]:
    """Reward, discount, where it led to and whether that was the end, of every step by what was seen in it."""
    told = {}
    for own in events:
        for t, begin in enumerate(own):
            reward, discount = 0.0, 1.0
            for event in own[t : t + n_steps]:
                reward += discount * event.reward
                discount *= example.gamma
                if event.terminated or event.truncated:
                    break
            told[begin.seen] = reward, discount, event.led_to, event.terminated
    return told


def several_steps(example: Example, dtype: torch.dtype) -> float:
    """Rewards of n steps: not beyond an end, nor beyond what is known."""
    n_steps = 1 + example.seed % 5
    capacity = example.columns * (2 + example.seed % 30)  # often less than what was played
    replay = Replay(capacity, example.columns, CPU, gamma=example.gamma, n_steps=n_steps)
    told = fates(example, played(example, replay, dtype), n_steps)
    batch = replay.sample(128, torch.Generator().manual_seed(example.seed))
    return worst_of(batch, told)


def worst_of(batch: Batch, told: dict[int, tuple[float, float, int, bool]]) -> float:
    """How far transitions with a weight are from what was told of them."""
    use = batch.weight > 0
    assert use.any()
    wanted = [told[seen] for seen in batch.obs[use].flatten().tolist()]
    reward, discount, led_to, terminated = zip(*wanted, strict=True)
    assert batch.terminated[use].tolist() == list(terminated)
    goes_on = ~batch.terminated[use]
    assert torch.equal(batch.next_obs[use].flatten()[goes_on], torch.tensor(led_to)[goes_on])
    assert (batch.action[use] == batch.obs[use].flatten() % 5).all()
    return max(apart(batch.reward[use], reward), apart(batch.discount[use], discount))


def priorities(example: Example, dtype: torch.dtype) -> float:
    """Schaul et al. (2016), section 3.3: priorities, which places are drawn, and the weights in the loss."""
    rng, generator = example.rng(), torch.Generator().manual_seed(example.seed)
    alpha, beta, size = example.lambda_, example.gamma, int(rng.integers(1, 33))
    replay = PrioritizedReplay(
        example.columns * example.rows * 2, example.columns, CPU, gamma=example.gamma, alpha=alpha
    )
    told = fates(example, played(example, replay, dtype), 1)
    before = replay.state_dict()["priority"].clone()
    steps = before.nonzero().flatten()
    assert len(steps) == len(told)
    assert (before[steps] == 1).all()
    chosen = steps[torch.from_numpy(rng.permutation(len(steps))[: max(1, len(steps) // 2)])]
    error = torch.tensor(example.size * rng.normal(size=len(chosen)), dtype=dtype)
    replay.update(chosen, error)
    kept = replay.state_dict()["priority"]
    wanted = before.tolist()
    for place, each in zip(chosen.tolist(), error.tolist(), strict=True):
        wanted[place] = (abs(each) + 1e-6) ** alpha
    off = apart(kept, wanted)

    same = torch.Generator()
    same.set_state(generator.get_state())
    batch = replay.sample(size, generator, beta)
    chance = torch.rand(size, dtype=torch.float64, generator=same).tolist()
    sums = np.cumsum(kept.double().numpy())
    places = [int(np.searchsorted(sums, (i + x) / size * sums[-1], side="right")) for i, x in enumerate(chance)]
    assert batch.place.tolist() == places
    drawn = [kept[place].item() / sums[-1] for place in places]
    weights = [(len(steps) * p) ** -beta for p in drawn]
    return max(off, apart(batch.weight, [w / max(weights) for w in weights]), worst_of(batch, told))


# Distributions


def softmax(logits: Sequence[float]) -> list[float]:
    """Logarithms of the probabilities."""
    most = max(logits)
    total = most + math.log(math.fsum(math.exp(z - most) for z in logits))
    return [z - total for z in logits]


def category(logits: list[float], chosen: int) -> tuple[float, float, list[float], list[float]]:
    """Log-probability, entropy, and their derivatives by the logits."""
    logs = softmax(logits)
    entropy = -math.fsum(math.exp(x) * x for x in logs)
    by_log_prob = [(i == chosen) - math.exp(x) for i, x in enumerate(logs)]
    return logs[chosen], entropy, by_log_prob, [-math.exp(x) * (x + entropy) for x in logs]


def coin(logit: float, up: int) -> tuple[float, float, list[float], list[float]]:
    """The same for a coin."""
    p = 1.0 / (1.0 + math.exp(-logit))
    log_p, log_q = -math.log1p(math.exp(-logit)), -math.log1p(math.exp(logit))
    entropy = -(p * log_p + (1.0 - p) * log_q)
    return (log_p if up else log_q), entropy, [up - p], [-logit * p * (1.0 - p)]


def bell(mean: float, log_std: float, x: float) -> tuple[float, float, list[float], list[float]]:
    """The same for the normal distribution."""
    z = (x - mean) / math.exp(log_std)
    log_prob = -0.5 * z * z - log_std - 0.5 * math.log(2.0 * math.pi)
    return log_prob, log_std + 0.5 * math.log(2.0 * math.pi * math.e), [z / math.exp(log_std)], [0.0]


def of_distribution(example: Example, dtype: torch.dtype, space: spaces.Space, squash: bool = False) -> float:
    """Log-probability, entropy, both gradients, the sample from given noise, and the mode, row by row."""
    rng, rows = example.rng(), example.rows
    distribution = make_distribution(space, log_std_init=float(rng.normal(scale=0.7)), squash=squash).to(dtype)
    scale = min(example.size, 3.0)  # so far out that float32 still knows the difference
    params = torch.tensor(scale * rng.normal(size=(rows, distribution.size)), dtype=dtype)
    noise = torch.tensor(rng.normal(size=(rows, distribution.size)), dtype=dtype)
    with torch.no_grad():
        raw, mode = distribution.sample(params, noise), distribution.mode(params)
        log_prob, entropy = distribution.log_prob_entropy(params, raw)
    slope, entropy_grad = torch.tensor(rng.normal(size=rows), dtype=dtype), float(rng.normal())
    for parameter in distribution.parameters():
        parameter.grad = torch.zeros_like(parameter)
    gradient = distribution.backward(params, raw, slope, entropy_grad)

    wanted_log_prob, wanted_entropy, wanted_gradient, by_std, off = [], [], [], np.zeros(distribution.size), 0.0
    for row in range(rows):
        given, shift, chosen = params[row].tolist(), noise[row].tolist(), np.ravel(raw[row].tolist()).tolist()
        parts: list[tuple[float, float, list[float], list[float]]] = []
        moved = [a + b for a, b in zip(given, shift, strict=True)]
        if isinstance(space, spaces.Discrete | spaces.MultiDiscrete):
            sizes = [int(space.n)] if isinstance(space, spaces.Discrete) else [int(n) for n in space.nvec]
            spans = list(itertools.pairwise(np.cumsum([0, *sizes]).tolist()))
            assert chosen == [int(np.argmax(moved[a:b])) for a, b in spans]
            assert np.ravel(mode[row].tolist()).tolist() == [int(np.argmax(given[a:b])) for a, b in spans]
            parts = [category(given[a:b], int(c)) for (a, b), c in zip(spans, chosen, strict=True)]
        elif isinstance(space, spaces.MultiBinary):
            assert chosen == [int(x > 0) for x in moved]
            assert mode[row].tolist() == [int(x > 0) for x in given]
            parts = [coin(z, int(c)) for z, c in zip(given, chosen, strict=True)]
        else:
            log_std = distribution.log_std.tolist()
            drawn = [m + math.exp(s) * e for m, s, e in zip(given, log_std, shift, strict=True)]
            off = max(off, apart(chosen, drawn), apart(mode[row], given))
            parts = [bell(*each) for each in zip(given, log_std, chosen, strict=True)]
        one = math.fsum(part[0] for part in parts)
        spread = math.fsum(part[1] for part in parts)
        weight, own = slope[row].item(), entropy_grad
        if squash:  # of tanh of it: less the logarithm of the slope of tanh, -2 log cosh; one sample for the entropy
            one += math.fsum(2.0 * (abs(x) + math.log1p(math.exp(-2.0 * abs(x))) - math.log(2.0)) for x in chosen)
            spread, weight, own = -one, weight - entropy_grad, 0.0
        wanted_log_prob.append(one)
        wanted_entropy.append(spread)
        steps = [(a, b) for part in parts for a, b in zip(part[2], part[3], strict=True)]
        wanted_gradient.append([weight * a + own * b for a, b in steps])
        if isinstance(space, spaces.Box):
            z = [(c - m) / math.exp(s) for c, m, s in zip(chosen, given, log_std, strict=True)]
            by_std += np.array([weight * (x * x - 1.0) + own for x in z])
    off = max(off, apart(log_prob, wanted_log_prob), apart(entropy, wanted_entropy), apart(gradient, wanted_gradient))
    if isinstance(space, spaces.Box):
        off = max(off, apart(distribution.log_std.grad, by_std))
        seen = distribution.to_env(raw)
        low, high = distribution.low.double().numpy(), distribution.high.double().numpy()
        inside = raw.double().numpy()
        bounded = low + (high - low) * (np.tanh(inside) + 1.0) / 2.0 if squash else np.clip(inside, low, high)
        off = max(off, apart(seen, bounded))
    return off


def categories(example: Example, dtype: torch.dtype) -> float:
    """Discrete."""
    return of_distribution(example, dtype, spaces.Discrete(1 + example.columns))


def several_categories(example: Example, dtype: torch.dtype) -> float:
    """MultiDiscrete."""
    return of_distribution(example, dtype, spaces.MultiDiscrete([2 + i % 3 for i in range(example.columns)]))


def coins(example: Example, dtype: torch.dtype) -> float:
    """MultiBinary."""
    return of_distribution(example, dtype, spaces.MultiBinary(example.columns))


def normal(example: Example, dtype: torch.dtype) -> float:
    """Box, clipped."""
    return of_distribution(example, dtype, spaces.Box(-0.5, 2.0, (example.columns,)))


def squashed(example: Example, dtype: torch.dtype) -> float:
    """Box, squashed."""
    return of_distribution(example, dtype, spaces.Box(-0.5, 2.0, (example.columns,)), squash=True)


# Losses


class Told(nn.Module):
    """A network that says what it was told to: outputs for the whole batch."""

    def __init__(self, *outputs: Tensor) -> None:
        super().__init__()
        self.outputs = nn.ParameterList(outputs)
        self.n_quantiles = outputs[0].shape[-1]
        self.distribution = make_distribution(spaces.Discrete(outputs[0].shape[1]))

    def evaluate(self, obs: Any) -> tuple[Any, Back]:
        """Outputs and their backward pass: one output alone is not in a tuple."""
        outputs, back = by_autograd(*self.outputs)
        return (outputs if len(outputs) > 1 else outputs[0]), back

    def quantiles(self, obs: Any) -> Tensor:
        """(B, A, K)."""
        return self.outputs[0]

    def forward(self, obs: Any) -> Tensor:
        """Means (B, A)."""
        return self.outputs[0].mean(2)


def of_ppo(example: Example, dtype: torch.dtype) -> float:
    """Schulman et al. (2017), equation 9: its terms and its gradient."""
    rng, rows, choices = example.rng(), 3 + example.rows, 1 + example.columns
    scale = min(max(example.size, 0.1), 30.0)  # far above what keeps their deviation from 0 where all are the same

    def drawn(*shape: int, size: float = 1.0) -> Tensor:
        return torch.tensor(size * rng.normal(size=shape), dtype=dtype)

    params, value = drawn(rows, choices), drawn(rows, size=scale)
    raw = torch.from_numpy(rng.integers(choices, size=rows))
    old_value, back = value + drawn(rows, size=0.3), drawn(rows, size=scale)
    advantage = drawn(rows, size=scale)
    old = params.log_softmax(1).gather(1, raw.unsqueeze(1)).squeeze(1) + drawn(rows, size=0.3)
    clip, clip_value = 0.05 + 0.5 * float(rng.random()), (0.2 if example.seed % 2 else None)
    config = PPOConfig(
        ent_coef=float(rng.random()), vf_coef=float(rng.random()), normalize_advantage=bool(rng.integers(2))
    )
    policy = Told(params.clone(), value.clone())
    batch = {"obs": None, "raw": raw, "log_prob": old, "value": old_value, "advantage": advantage, "returns": back}
    scalar, terms = ppo_loss(policy, batch, config, clip, clip_value)  # type: ignore[arg-type]
    assert scalar is not None
    scalar.backward()

    a = advantage.tolist()
    if config.normalize_advantage:
        mean = math.fsum(a) / rows
        deviation = math.sqrt(math.fsum((x - mean) ** 2 for x in a) / (rows - 1))
        a = [(x - mean) / deviation for x in a]
    surrogate, error, entropy, by_params, by_value = [], [], [], [], []
    for i in range(rows):
        log_prob, spread, by_log_prob, by_entropy = category(params[i].tolist(), int(raw[i]))
        ratio = math.exp(log_prob - old[i].item())
        free, held = a[i] * ratio, a[i] * min(max(ratio, 1.0 - clip), 1.0 + clip)
        surrogate.append(min(free, held))
        slope = -free / rows if free <= held else 0.0
        by_params.append([slope * x - config.ent_coef * y / rows for x, y in zip(by_log_prob, by_entropy, strict=True)])
        entropy.append(spread)
        v, was, wanted = value[i].item(), old_value[i].item(), back[i].item()
        bounded = v if clip_value is None else was + min(max(v - was, -clip_value), clip_value)
        error.append(bounded - wanted)
        moves = clip_value is None or abs(v - was) <= clip_value
        by_value.append(2.0 * config.vf_coef * error[-1] / rows if moves else 0.0)
    grads = [x.grad for x in policy.outputs]
    pairs = [(terms.surrogate, surrogate), (terms.error, error), (terms.entropy, entropy)]
    pairs += [(grads[0], by_params), (grads[1], by_value)]
    return max(apart(ours, theirs) for ours, theirs in pairs)


def of_dqn(example: Example, dtype: torch.dtype, k: int = 1) -> float:
    """Targets, loss, gradient and errors: Mnih et al. (2015), and for quantiles Dabney et al. (2018)."""
    rng, rows, choices = example.rng(), example.rows, 1 + example.columns
    scale = min(example.size, 30.0)

    def drawn(*shape: int) -> Tensor:
        return torch.tensor(scale * rng.normal(size=shape), dtype=dtype)

    own, other, values = (drawn(rows, choices, k) for _ in range(3))
    reward, weight = drawn(rows), torch.tensor(rng.random(rows), dtype=dtype)
    terminated, _ = ends_of(example, rng, (rows,))
    other[terminated] = torch.nan
    action = torch.from_numpy(rng.integers(choices, size=rows))
    discount = torch.full((rows,), example.gamma, dtype=dtype) * torch.tensor(rng.random(rows), dtype=dtype)
    batch = Batch(reward, action, reward, reward, discount, terminated, weight, action)
    double = bool(rng.integers(2))
    target = td_target(batch, Told(other), Told(own) if double else None)  # type: ignore[arg-type]
    network = Told(values.clone() if k > 1 else values.squeeze(2).clone())
    network.n_quantiles = k
    share = at_action(weight / rows, action, choices)
    scalar, loss, errors = td_loss(network, {"obs": None, "action": action, "target": target, "share": share})  # type: ignore[arg-type]
    assert scalar is not None
    scalar.backward()

    wanted, total, gradient, far = [], 0.0, np.zeros((rows, choices, k)), []
    for i in range(rows):
        chooser = (own if double else other)[i].mean(1).tolist()
        best = int(np.argmax(chooser))
        ahead = [0.0] * k if terminated[i] else other[i, best].tolist()
        wanted.append(
            [reward[i].item() + discount[i].item() * x if not terminated[i] else reward[i].item() for x in ahead]
        )
        said, w, goals = values[i, action[i]].tolist(), weight[i].item() / rows, target[i].tolist()
        if k == 1:
            u = said[0] - goals[0]
            total += w * huber(u)
            gradient[i, action[i], 0] = w * min(max(u, -1.0), 1.0)
            far.append(u)
            continue
        for q in range(k):
            level = (2 * q + 1) / (2 * k)
            for goal in goals:
                u = goal - said[q]
                each = w * abs(level - (u < 0)) / k
                total += each * huber(u)
                gradient[i, action[i], q] -= each * min(max(u, -1.0), 1.0)
        far.append(math.fsum(abs(goal - x) for goal in goals for x in said) / k**2)
    ours = errors.gather(1, action.unsqueeze(1)).squeeze(1) if k == 1 else errors
    grad = network.outputs[0].grad
    assert grad is not None
    pairs = [(target, wanted), (loss, total), (grad.view(rows, choices, k), gradient), (ours, far)]
    return max(apart(a, b) for a, b in pairs)


def of_quantiles(example: Example, dtype: torch.dtype) -> float:
    """The same for a distribution of the return."""
    return of_dqn(example, dtype, 2 + example.seed % 6)


def huber(x: float) -> float:
    """Of Mnih et al. (2015): the square near 0, then straight."""
    return 0.5 * x * x if abs(x) <= 1.0 else abs(x) - 0.5


def of_pqn(example: Example, dtype: torch.dtype) -> float:
    """Gallici et al. (2024), algorithm 1."""
    rng, rows, choices = example.rng(), example.rows, 1 + example.columns
    values, target = (torch.tensor(example.size * rng.normal(size=s), dtype=dtype) for s in ((rows, choices), rows))
    action = torch.from_numpy(rng.integers(choices, size=rows))
    network = Told(values.clone())
    taken = at_action(torch.ones_like(target), action, choices)
    scalar, loss = pqn_loss(network, {"obs": None, "target": target, "taken": taken})  # type: ignore[arg-type]
    assert scalar is not None
    scalar.backward()
    total, gradient = 0.0, np.zeros((rows, choices))
    for i in range(rows):
        error = values[i, action[i]].item() - target[i].item()
        total += error * error / (2 * rows)
        gradient[i, action[i]] = error / rows
    grad = network.outputs[0].grad
    assert grad is not None
    return max(apart(loss, total), apart(grad, gradient))


CHECKS: dict[Callable[[Example, torch.dtype], float], int] = {
    advantages: 1_600,
    returns: 1_600,
    several_steps: 1_000,
    priorities: 1_000,
    categories: 600,
    several_categories: 600,
    coins: 600,
    normal: 600,
    squashed: 600,
    of_ppo: 600,
    of_dqn: 500,
    of_quantiles: 500,
    of_pqn: 200,
}
"""Every check, and how many examples of it are tried: 10,000 in all."""
