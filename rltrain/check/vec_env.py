"""Checks of every vectorised environment."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from functools import cached_property
from typing import Any

import numpy as np
import torch
from gymnasium import spaces
from torch import Tensor

from rltrain.check.play import STEPS, WALKERS, N, Player, Walk, changed, copied, difference, roll
from rltrain.check.report import Finding
from rltrain.env import Observation
from rltrain.make import make_vec
from rltrain.registry import EnvSpec
from rltrain.spaces import entries_of
from rltrain.vec import VecEnv, VecStep

OWED = {
    "reward": torch.float32,
    "terminated": torch.bool,
    "truncated": torch.bool,
    "episode_return": torch.float32,
    "episode_length": torch.int64,
}
"""Types of the tensors that a step returns beside observations."""


class Vec:
    """A vectorised environment to be checked. The same one is reset for every check."""

    def __init__(self, vec: VecEnv) -> None:
        self._vec = vec

    def vec(self, num_envs: int = N, max_episode_steps: int | None = None) -> VecEnv:
        """The environment, with its own size and time limit."""
        return self._vec

    @cached_property
    def walk(self) -> Walk:
        """A long walk in it."""
        return Walk.of(self.vec(WALKERS), max(1, STEPS * WALKERS // self.vec(WALKERS).num_envs))

    def draws_nothing(self) -> bool:
        """Whether no seed makes a difference. That cannot be known from outside, so it is false."""
        return False


class Adapted(Vec):
    """An environment of another library, made with the time limit that a check asks for."""

    def __init__(self, spec: EnvSpec, device: torch.device | str, kwargs: dict[str, Any]) -> None:
        self.name = spec.id
        self._spec, self._device, self._kwargs = spec, device, kwargs

    def vec(self, num_envs: int = N, max_episode_steps: int | None = None) -> VecEnv:
        """A few, whatever number is asked for, since JAX compiles for each number and that may take a minute."""
        options = {"device": self._device, "max_episode_steps": max_episode_steps, **self._kwargs}
        return make_vec(self._spec.id, WALKERS, **options)


def looks(subject: Vec) -> Iterator[Finding]:
    """Shapes, types and devices are right in every step."""
    walk, vec = subject.walk, subject.vec(WALKERS)
    for change in walk.changes:
        yield Finding("shapes", f"{change}.", "Give the same tensors, in the same shapes and types, in every step.")
    for name, (shape, dtype, device) in walk.looks.items():
        owed = OWED.get(name)
        if owed is not None and (shape, dtype) != ((vec.num_envs,), owed):
            what = f"{name} has shape {shape} and type {dtype}"
            yield Finding("shapes", f"{what}.", f"It must have shape ({vec.num_envs},) and type {owed}.")
        elif shape[:1] != (vec.num_envs,):
            yield Finding("shapes", f"{name} has shape {shape} for {vec.num_envs} environments.", "Give one row each.")
        if device != vec.device.type:
            yield Finding("devices", f"{name} is on {device}, and the environment on {vec.device}.", "Move it there.")
    for name, space in entries_of(vec.single_observation_space).items():
        shape, dtype, _ = walk.looks[f"obs.{name}" if name else "obs"]
        what = f"the observation '{name}'" if name else "the observation"
        if shape[1:] != (space.shape or ()):
            fix = f"Its space is {space}: give ({vec.num_envs}, *{space.shape}), or mend the space."
            yield Finding("shapes", f"{what} has shape {shape}.", fix)
        if isinstance(space, spaces.Box) and str(dtype) != f"torch.{space.dtype}":
            fix = f"Give observe's result that type, or the space dtype=np.{str(dtype).removeprefix('torch.')}."
            yield Finding("types", f"{what} is of type {dtype}, and its space of type {space.dtype}.", fix)


def numbers(subject: Vec) -> Iterator[Finding]:
    """Neither NaN nor infinity appears."""
    walk = subject.walk
    for name, most in walk.most.items():
        if most.is_floating_point() and not bool((most.isfinite() & walk.least[name].isfinite()).all()):
            kind = "NaN" if bool(most.isnan().any()) else "infinite"
            yield Finding(
                "numbers",
                f"the observation{f' {name!r}' if name else ''} becomes {kind}, in {_where(~most.isfinite())}.",
                "Look for divisions by 0, roots and logarithms of negative numbers, states that grow without bound.",
            )
    if not bool(walk.reward_total.isfinite().all()):
        yield Finding(
            "numbers", "the reward becomes NaN or infinite.", "Keep it finite: clamp what it is computed from."
        )


def masks(subject: Vec) -> Iterator[Finding]:
    """An action mask allows something while an episode goes on."""
    if (times := int(subject.walk.stuck.sum())) > 0:
        fix = "End the episode where nothing can be done, or allow an action that does nothing."
        yield Finding("masks", f"the action mask allows nothing in {times:,} steps although the episode goes on.", fix)


def bounds(subject: Vec) -> Iterator[Finding]:
    """Observations stay inside their space."""
    for name, space in entries_of(subject.vec(WALKERS).single_observation_space).items():
        what = f"observation{f' {name!r}' if name else ''}"
        least, most = (x[name].cpu().numpy() for x in (subject.walk.least, subject.walk.most))
        if least.shape[1:] != (space.shape or ()):
            continue  # an error of its own
        if isinstance(space, spaces.Box):
            for values, bound, beyond in (
                (least, space.low, _as_in(space, least) < space.low),
                (most, space.high, _as_in(space, most) > space.high),
            ):
                if beyond.any():
                    _, *at = index = tuple(int(i[0]) for i in np.nonzero(beyond))
                    yield Finding(
                        "bounds",
                        f"{what}{_index(at)} reaches {values[index]:g}, and its space ends at {bound[tuple(at)]:g}.",
                        "Widen the space, or clamp what observe returns.",
                    )
        else:
            wrong = [row for row in (*least, *most) if row.astype(space.dtype) not in space]
            if wrong:
                yield Finding("bounds", f"{what} reaches {wrong[0]}, which is not in {space}.", "Widen the space.")


def _as_in(space: spaces.Box, values: np.ndarray) -> np.ndarray:
    """Values as the space rounds its bounds, so that one on a bound is inside."""
    return values.astype(space.dtype) if space.dtype is not None and space.dtype.kind == "f" else values


def limits(subject: Vec) -> Iterator[Finding]:
    """Episodes are truncated at the time limit, and never where they terminated."""
    vec = subject.vec(N, 5)
    limit = getattr(vec, "max_episode_steps", None)
    cut = late = both = missed = 0
    for step in roll(vec, vec.reset(0), Player(vec), 60):
        both += int((step.terminated & step.truncated).sum())
        if limit is not None:
            at_limit = (step.episode_length >= limit) & ~step.terminated
            late += int((step.episode_length > limit).sum())
            missed += int((at_limit != step.truncated).sum())
            cut += int(step.truncated.sum())
    if both or bool(subject.walk.both.any()):
        message = "an episode is both terminated and truncated in the same step."
        yield Finding("limits", message, "Report terminated alone: truncated & ~terminated.")
    if late or missed:
        message = f"with a time limit of {limit} steps, episodes last longer or are truncated at other times."
        yield Finding("limits", message, "Set truncated where episode_length reaches the limit, and nowhere else.")


def statistics(subject: Vec) -> Iterator[Finding]:
    """Return and length of the episodes equal a plain sum."""
    vec = subject.vec(N, 23)
    total, length = np.zeros(vec.num_envs), np.zeros(vec.num_envs, dtype=np.int64)
    for number, step in enumerate(roll(vec, vec.reset(3), Player(vec), 100), 1):
        total += step.reward.cpu().numpy()
        length += 1
        if not np.allclose(step.episode_return.cpu().numpy(), total, rtol=1e-5, atol=1e-5, equal_nan=True):
            message = f"episode_return is not the sum of the rewards, in step {number}."
            yield Finding("statistics", message, "Add up the rewards of an episode, and start anew after its end.")
            return
        if not np.array_equal(step.episode_length.cpu().numpy(), length):
            message = f"episode_length does not count the steps, in step {number}."
            yield Finding("statistics", message, "Count the steps of an episode, and start anew after its end.")
            return
        done = (step.terminated | step.truncated).cpu().numpy()
        total[done], length[done] = 0.0, 0


def rows(subject: Vec) -> Iterator[Finding]:
    """A row does not depend on the actions in the other rows."""

    def play(other: int) -> list[VecStep]:
        vec = subject.vec(N, 29)
        obs, mine, others = vec.reset(0), Player(vec, 2), Player(vec, 10 + other)
        steps = []
        for _ in range(120):
            action = others(obs)
            action[0] = mine(_first(obs))[0]
            steps.append(copied(vec.step(action)))
            obs = steps[-1].obs
        return steps

    if subject.vec(N, 29).num_envs == 1:
        return
    where = difference(play(0), play(1), row=0)
    if where is not None:
        yield Finding(
            "rows",
            f"what happens in row 0 depends on the actions in the other rows: {where}.",
            "Compute each row from its own state alone, no means, sums or sorts over the first dimension, and draw for "
            "every row in every step, whether the row needs it or not: choose with torch.where.",
        )


def seeds(subject: Vec) -> Iterator[Finding]:
    """Equal seeds give equal runs, and different seeds different ones."""

    def play(seed: int) -> list[VecStep]:
        vec = subject.vec(N, 11)
        return roll(vec, vec.reset(seed), Player(vec), 50)

    first = play(5)
    where = difference(first, play(5))
    if where is not None:
        yield Finding(
            "seeds",
            f"two runs from the same seed differ: {where}.",
            "Draw from the rng that reset and step are given (torch.rand(n, generator=rng)) and from nothing else: "
            "not from torch's default generator, NumPy, random or the clock.",
        )
    elif difference(first, play(6)) is None and not subject.draws_nothing():
        message = "two runs from different seeds are equal."
        yield Finding("seeds", message, "Use the generator that is given; make none of your own.", "warning")


def saving(subject: Vec) -> Iterator[Finding]:
    """A loaded state continues bit for bit."""
    vec = subject.vec(N, 13)
    if not vec.exact_resume:
        return
    obs = roll(vec, vec.reset(0), Player(vec), 30)[-1].obs
    saved = copy.deepcopy(vec.state_dict())
    expected = roll(vec, obs, Player(vec, 1), 60)
    other = subject.vec(N, 13)
    other.load_state_dict(saved)
    where = difference(roll(other, obs, Player(other, 1), 60), expected)
    if where is not None:
        yield Finding(
            "saving",
            f"a run continued from its saved state differs from the one that went on: {where}.",
            "Keep everything with memory in the state: attributes of the environment are not saved.",
        )


def kept(subject: Vec) -> Iterator[Finding]:
    """A step changes neither the observations that its actions were chosen from nor the actions."""
    vec = subject.vec(N, 3)
    obs, player = vec.reset(0), Player(vec)
    for _ in range(10):
        action = player(obs)
        seen, given = copy.deepcopy(obs), action.clone()
        step = vec.step(action)
        if changed(action, given):
            yield Finding("aliasing", "step changes the actions it is given.", "Work on a copy: action.clone().")
            return
        if changed(obs, seen):
            yield Finding(
                "aliasing",
                "step changes the observations of the step before, which are still in use.",
                "Return new tensors from observe and step instead of writing into old ones.",
            )
            return
        obs = step.obs


def _first(obs: Observation) -> Observation:
    return {name: part[:1] for name, part in obs.items()} if isinstance(obs, dict) else obs[:1]


def _where(wrong: Tensor) -> str:
    _, *at = [int(i[0]) for i in wrong.cpu().nonzero(as_tuple=True)]
    return f"entry {_index(at)}" if at else "every entry"


def _index(at: list[int]) -> str:
    return f"[{', '.join(map(str, at))}]" if at else ""
