"""Losses of the agents, with their gradients."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
from gymnasium import spaces
from torch import Tensor, nn

from rltrain.agents.dqn.loss import td_loss
from rltrain.agents.parts.distributions import make_distribution
from rltrain.agents.parts.manual_grad import Back, by_autograd
from rltrain.agents.parts.q_network import at_action
from rltrain.agents.parts.replay import Batch
from rltrain.agents.parts.td import td_target
from rltrain.agents.ppo.config import PPOConfig
from rltrain.agents.ppo.loss import ppo_loss
from rltrain.agents.pqn.agent import td_loss as pqn_loss
from tests.torture.oracles.distributions import category
from tests.torture.oracles.examples import Example, apart, ends_of


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
