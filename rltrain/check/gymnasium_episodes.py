"""Checks of a plain Gymnasium environment that play whole episodes: seeds, shared memory, and later starts."""

from __future__ import annotations

import copy
import random
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from gymnasium.utils.env_checker import data_equivalence

from rltrain.adapters.masks import MaskReader
from rltrain.check.gymnasium_env import STEPS, Plain, start
from rltrain.check.report import Finding

PLAYED = 100  # steps of a play
Step = tuple[Any, Any, Any, Any]  # obs, reward, terminated, truncated


def seeds(subject: Plain) -> Iterator[Finding]:
    """Equal seeds give equal episodes, in a new environment and in a used one."""
    steps = subject.steps(PLAYED, plays=4)
    first = list(_play(subject.make(), 5, steps=steps))
    _stir()
    where = _difference(first, list(_play(subject.make(), 5, steps=steps)))
    if where is not None and subject.one_object:
        yield Finding(
            "seeds",
            f"the environment differs after another reset with the same seed {where}.",
            "Set everything anew in reset, and draw from self.np_random alone: not from np.random or random.",
        )
        return
    if where is not None:
        yield Finding(
            "seeds",
            f"two environments that are reset with the same seed differ {where}.",
            "Call super().reset(seed=seed) and draw from self.np_random alone: not from np.random or random.",
        )
        return
    used = subject.make()
    list(_play(used, 6, steps=steps))
    where = _difference(first, list(_play(used, 5, steps=steps)))
    if where is not None:
        yield Finding(
            "resets",
            f"an environment that has been played in before differs from a new one after the same reset {where}.",
            "Set everything anew in reset: step counters, totals, objects that an episode has changed.",
        )


def generators(subject: Plain) -> Iterator[Finding]:
    """It draws from generators of its own, not from those that the whole process shares."""
    env = subject.make()
    before = _of_process()
    start(env, 0)
    for _ in range(subject.steps(PLAYED // 2)):
        _, _, terminated, truncated, _ = env.step(env.sample())
        if terminated or truncated:
            env.reset()
    if used := [name for name, state in _of_process().items() if state != before[name]]:
        yield Finding(
            "generators",
            f"it draws from {' and '.join(used)}, or seeds it, which everything in the process shares: its episodes "
            "change with whatever else draws from it.",
            "Draw from self.np_random, which super().reset(seed=seed) seeds.",
            "warning",
        )


def _of_process() -> dict[str, Any]:
    """The states of the process-wide generators by name, in a form that can be compared."""
    kind, keys, *rest = np.random.get_state()
    return {
        "np.random": (kind, np.asarray(keys).tobytes(), rest),
        "random": random.getstate(),
        "torch's default generator": torch.get_rng_state().numpy().tobytes(),
    }


def aliasing(subject: Plain) -> Iterator[Finding]:
    """Returned arrays stay as they are, and writing into them does not change the environment."""
    env = subject.make()
    obs, _ = start(env, 0)
    steps = subject.steps(PLAYED, plays=4)
    for _ in range(steps // 2):
        action = env.sample()
        held, given = copy.deepcopy(obs), copy.deepcopy(action)
        after, _, terminated, truncated, _ = env.step(action)
        if not data_equivalence(obs, held, exact=True):
            message = "step writes over the observation that it returned before."
            yield Finding("aliasing", message, "Return a copy: self._obs.copy().")
            return
        if not data_equivalence(action, given, exact=True):
            yield Finding("aliasing", "step changes the action that it is given.", "Work on a copy: np.array(action).")
            return
        obs = env.reset()[0] if terminated or truncated else after
    plain, again = (list(_play(subject.make(), 5, steps=steps)) for _ in range(2))
    if _difference(plain, again) is not None:
        return  # it does not repeat itself anyway, so a difference would say nothing about what was written
    where = _difference(plain, list(_play(subject.make(), 5, steps=steps, spoil=True)))
    if where is not None:
        yield Finding(
            "aliasing",
            f"writing into an observation changes the environment: the episode goes on differently {where}.",
            "Return a copy of the state: self.state.copy().",
        )


def starts(subject: Plain) -> Iterator[Finding]:
    """Episodes after the first one last longer than one step, unless the first one did not either."""
    env, lengths = subject.make(), []
    start(env, 0)
    length = 0
    for _ in range(subject.steps(STEPS)):
        _, _, terminated, truncated, _ = env.step(env.sample())
        length += 1
        if terminated or truncated:
            lengths.append(length)
            env.reset()
            length = 0
    later = lengths[len(lengths) // 2 :]
    if len(later) > 5 and lengths[0] > 1 and set(later) == {1}:
        message = f"the first episode lasted {lengths[0]} steps, and later on every one ends with its first step."
        yield Finding("resets", message, "Clear in reset what makes step end an episode, such as a counter of steps.")


def _play(env: MaskReader, seed: int, *, steps: int, spoil: bool = False) -> Iterator[Step]:
    """Plays some steps, across the ends of episodes; ``spoil`` writes nonsense into returned arrays."""
    obs, _ = start(env, seed)
    actions = [env.sample() for _ in range(steps)]
    yield copy.deepcopy(obs), 0.0, False, False
    for action in actions:
        if spoil:
            _spoil(obs)
        if env.mask is not None:
            action = env.sample()
        obs, reward, terminated, truncated, _ = env.step(action)
        yield copy.deepcopy(obs), reward, terminated, truncated
        if terminated or truncated:
            obs, _ = env.reset()
            yield copy.deepcopy(obs), 0.0, False, False


def _spoil(obs: Any) -> None:
    """Writes another number into every writable array except the action mask."""
    if isinstance(obs, dict):
        for name, part in obs.items():
            if name != "action_mask":
                _spoil(part)
    elif isinstance(obs, tuple):
        for part in obs:
            _spoil(part)
    elif isinstance(obs, np.ndarray) and obs.flags.writeable:
        obs[...] = obs + 1 if obs.dtype.kind != "b" else ~obs


def _difference(a: list[Step], b: list[Step]) -> str | None:
    """Where two plays differ first."""
    for number, (one, other) in enumerate(zip(a, b, strict=False)):
        for name, x, y in zip(("observation", "reward", "terminated", "truncated"), one, other, strict=True):
            if not _equal(x, y):
                return f"in the {name} of step {number}" if number else f"in the first {name}"
    return None


def _equal(x: Any, y: Any) -> bool:
    """Whether two results are equal; NaN equals NaN."""
    if isinstance(x, dict):
        return x.keys() == y.keys() and all(_equal(x[name], y[name]) for name in x)
    if isinstance(x, tuple):
        return len(x) == len(y) and all(_equal(*pair) for pair in zip(x, y, strict=True))
    number = np.asarray(x).dtype.kind in "fc"
    return bool(np.array_equal(x, y, equal_nan=True) if number else np.array_equal(x, y))


def _stir() -> None:
    """Advances the process-wide generators, which exposes environments that draw from them."""
    np.random.random()
    random.random()
