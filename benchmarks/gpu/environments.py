"""The environments on the device against the CPU, step by step."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

import rltrain
from benchmarks.gpu.setup import Setup
from rltrain.registry import env_specs
from rltrain.spaces import random_actions
from rltrain.tree import leaves, tree_map, tree_where

CLOSE = 1e-4  # of a number after one step, relative to 1 or to the number where that is larger


def all_of_them(setup: Setup) -> dict[str, Any]:
    """Every environment for some steps, each from the same states on the CPU and on the device.

    What is drawn on the CPU is drawn on the device too.
    """
    num_envs, steps = (8, 4) if setup.mini else (256, 32)
    ids = [env_id for env_id in env_specs() if env_id.startswith("rltrain/")]
    worst = {env_id: max(differences(env_id, setup.device, num_envs, steps)) for env_id in ids}
    wrong = {env_id: gap for env_id, gap in worst.items() if gap > CLOSE}
    result: dict[str, Any] = {"passed": not wrong, "environments": len(ids), "largest_difference": max(worst.values())}
    return {**result, "wrong": wrong} if wrong else result


def differences(env_id: str, device: str, num_envs: int, steps: int) -> Iterator[float]:
    """The largest difference after each step, where a bool or an integer that differs counts 1."""
    here, there = (rltrain.make_env(env_id, device=each) for each in ("cpu", device))
    rng, other = (torch.Generator(each).manual_seed(0) for each in ("cpu", device))
    state = here.reset(num_envs, rng)
    for _ in range(steps):
        action = random_actions(here.action_space, num_envs, torch.device("cpu"), rng)
        with Draws() as draws:
            ours = here.step(state, action, rng)
        with Draws(draws.values):
            theirs = there.step(tree_map(lambda x: x.to(device), state), action.to(device), other)
        pairs = zip(
            (*leaves(ours[0]), *leaves(here.full_observe(ours[0])), *ours[1:]),
            (*leaves(theirs[0]), *leaves(there.full_observe(theirs[0])), *theirs[1:]),
            strict=True,
        )
        yield max(difference(mine, their.cpu()) for mine, their in pairs)
        state = tree_where(ours[2], here.reset(num_envs, rng), ours[0])


class Draws(TorchDispatchMode):
    """Keeps what is drawn from generators, or puts in its place what was drawn before.

    Args:
        values: To put there, in the order of drawing; None to keep what comes.
    """

    def __init__(self, values: list[Tensor] | None = None) -> None:
        super().__init__()
        self.values: list[Tensor] = []
        self.given = None if values is None else iter(values)

    def __torch_dispatch__(self, op: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = op(*args, **(kwargs or {}))
        if torch.Tag.nondeterministic_seeded in op.tags:
            if self.given is None:
                self.values.append(out.clone())
            else:
                out.copy_(next(self.given))
        return out


def difference(ours: Tensor, theirs: Tensor) -> float:
    """The largest, relative to 1 or to the number; what is NaN or infinite on both sides is equal."""
    if not ours.numel():
        return 0.0
    if not ours.is_floating_point():
        return float((ours != theirs).any())
    gap = (ours - theirs).abs() / ours.abs().clamp(min=1.0)
    equal = (ours == theirs) | (ours.isnan() & theirs.isnan())
    return float(gap.masked_fill(equal, 0.0).nan_to_num(torch.inf).max())
