"""Distributions of actions, with their gradients."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

import numpy as np
import torch
from gymnasium import spaces

from rltrain.agents.parts.distributions import make_distribution
from tests.torture.oracles.examples import Example, apart


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
