"""Play for the checks: random actions, rollouts, and the first difference between two of them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Protocol

import torch
from torch import Tensor

from rltrain.env import Observation
from rltrain.spaces import MASK, allows_nothing, random_actions
from rltrain.tree import leaves, names, tree_map
from rltrain.vec import VecEnv, VecStep

N = 32  # environments side by side
STEPS = 2_000  # of a walk
WALKERS = 8  # environments of a walk


class Maker(Protocol):
    """Makes the environments that a check asks for."""

    def vec(self, num_envs: int = N, max_episode_steps: int | None = None) -> VecEnv:
        """N environments, with the given time limit in place of their own where that is possible."""


class Player:
    """Random actions that the mask allows, from a generator of its own."""

    def __init__(self, vec: VecEnv, seed: int = 0) -> None:
        self.space, self.device = vec.single_action_space, vec.device
        self.rng = torch.Generator().manual_seed(seed)

    def __call__(self, obs: Observation) -> Tensor:
        """Actions (N, *A) for observations (N, *O)."""
        mask = obs.get("action_mask") if isinstance(obs, dict) else None
        cpu = torch.device("cpu")  # drawn there, so that every device sees the same
        mask = None if mask is None else mask.to(cpu, torch.bool)
        return random_actions(self.space, len(next(leaves(obs))), cpu, self.rng, mask).to(self.device)


def roll(vec: VecEnv, obs: Observation, player: Player, steps: int) -> list[VecStep]:
    """Plays some steps and copies their outcomes, which are valid only until the next step."""
    out = []
    for _ in range(steps):
        out.append(copied(vec.step(player(obs))))
        obs = out[-1].obs
    return out


def copied(step: VecStep) -> VecStep:
    """A step that stays valid."""
    return VecStep._make(tree_map(torch.clone, part) for part in step)


def named(step: VecStep) -> dict[str, Tensor]:
    """The tensors of a step by dotted name."""
    parts = step._asdict().items()
    return {name: leaf for part, tree in parts for name, leaf in zip(names(tree, part), leaves(tree), strict=True)}


def difference(a: list[VecStep], b: list[VecStep], row: int | None = None) -> str | None:
    """The first place where two rollouts differ, in words; None if they are equal, bit for bit."""
    rows = slice(None) if row is None else slice(row, row + 1)
    for number, (one, other) in enumerate(zip(a, b, strict=True), 1):
        for (name, x), y in zip(named(one).items(), named(other).values(), strict=True):
            if not same(x[rows], y[rows]):
                return f"in {name} of step {number}"
    return None


def same(x: Tensor, y: Tensor) -> bool:
    """Whether two tensors are equal; NaN equals NaN."""
    return torch.equal(x, y) or (x.shape == y.shape and bool(torch.eq(x, y).logical_or((x != x) & (y != y)).all()))


def changed(tree: Any, copied: Any) -> list[str]:
    """The names of the tensors in a tree that have changed since it was copied."""
    triples = zip(names(tree), leaves(tree), leaves(copied), strict=True)
    return [name for name, now, before in triples if not same(now, before)]


def flat_obs(obs: Observation) -> dict[str, Tensor]:
    """The entries of an observation by name; a tensor under an empty name."""
    return obs if isinstance(obs, dict) else {"": obs}


@dataclass
class Walk:
    """Statistics of a long walk with random actions.

    Attributes:
        least: The least value of every entry of the observations, by name.
        most: The greatest one.
        looks: Shape, type and device of every tensor of a step, by name.
        changes: Changes of these during the walk, in words.
        reward_total: (N,) sum of all rewards: finite if all were.
        both: (N,) number of steps in which an episode was both terminated and truncated.
        stuck: (N,) number of steps after which the mask allowed nothing, and the episode went on.
    """

    least: dict[str, Tensor]
    most: dict[str, Tensor]
    reward_total: Tensor
    both: Tensor
    stuck: Tensor
    looks: dict[str, tuple[Any, ...]] = field(default_factory=dict)
    changes: list[str] = field(default_factory=list)

    @classmethod
    def of(cls, vec: VecEnv, steps: int = STEPS) -> Walk:
        """Walks, and keeps extremes instead of all values."""
        obs, player = vec.reset(0), Player(vec)
        first = {name: part.clone() for name, part in flat_obs(obs).items()}
        zeros = torch.zeros(vec.num_envs, device=vec.device)
        walk = cls(first, dict(first), zeros, zeros.to(torch.int64), zeros.to(torch.int64))
        looks: list[tuple[Any, ...]] = []
        for _ in range(steps):
            step = vec.step(player(obs))
            obs = step.obs
            now = [(leaf.shape, leaf.dtype, leaf.device) for part in step for leaf in leaves(part)]
            if now != looks:
                seen = {name: (tuple(x.shape), x.dtype, x.device.type) for name, x in named(step).items()}
                walk.changes += list(_news(walk.looks, seen)) if looks else []
                walk.looks, looks = walk.looks or seen, now
            if walk.changes:
                break
            for shown in (step.obs, step.final_obs):
                for name, part in flat_obs(shown).items():
                    walk.least[name] = torch.minimum(walk.least[name], part)  # NaN stays NaN
                    walk.most[name] = torch.maximum(walk.most[name], part)
            walk.reward_total = walk.reward_total + step.reward
            walk.both += step.terminated & step.truncated
            if isinstance(step.obs, dict) and MASK in step.obs:
                walk.stuck += allows_nothing(step.obs[MASK], vec.single_action_space)
        return walk


def _news(before: dict[str, tuple[Any, ...]], now: dict[str, tuple[Any, ...]]) -> Iterator[str]:
    for name in dict.fromkeys([*before, *now]):
        was, is_ = (
            ("shape {}, type {}, device {}".format(*x[name]) if name in x else "missing") for x in (before, now)
        )
        if was != is_:
            yield f"{name} was {was}, and then {is_}"
