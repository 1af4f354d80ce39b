"""Checks of a plain Gymnasium environment: one game at a time, in NumPy."""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from functools import cached_property
from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces
from gymnasium.utils.env_checker import check_env as gymnasium_check

from rltrain.adapters.gymnasium_ids import named_errors
from rltrain.adapters.loop import Recipe
from rltrain.adapters.masks import MaskReader, mask_elsewhere, masks_heeded
from rltrain.adapters.native import find_native
from rltrain.adapters.spaces import Actions, observation_leaves
from rltrain.check.report import Finding
from rltrain.errors import ConfigError, plain
from rltrain.naming.installed import is_installed
from rltrain.naming.reasons import reason_of
from rltrain.spaces import check_mask

ADVICE = {
    "infinity. This is probably": "Give the space the bounds that values really have, if there are any.",
    "symmetric and normalized": "Make the action space Box(-1, 1), and scale actions in step.",
    "then `env.reset()` is non-deterministic": "A reset without a seed goes on with the generator that is there: "
    "super().reset(seed=seed) does that, also for None.",
    "super().reset(seed=seed)": "Begin reset with super().reset(seed=seed), and draw from self.np_random.",
    "": "Gymnasium's documentation of gymnasium.Env says what that method must do.",
}
"""Advice by words in Gymnasium's messages; the last one fits all of them."""
STEPS = 1_000
SECONDS = 10.0
"""How long a check may step an environment; of a slow one it sees fewer steps."""
FEWEST = 20


class Plain:
    """A Gymnasium environment to be checked.

    Args:
        make: Function that makes one.
        name: Its name.
        one_object: Whether it always returns the same one, because there is no way to make another.
    """

    def __init__(self, make: Callable[[], gymnasium.Env[Any, Any]], name: str, *, one_object: bool = False) -> None:
        self._make = make
        self.name = name
        self.one_object = one_object

    def make(self) -> MaskReader:
        """A new one, whose random actions are those that its mask allows.

        Raises:
            ConfigError: It cannot be made.
        """
        with named_errors(self.name):
            return MaskReader(self._make())

    def steps(self, most: int, *, plays: int = 1) -> int:
        """How many steps a check may take that would take ``most`` of a fast environment.

        Args:
            most: The steps of each play.
            plays: How often so many are played.
        """
        return min(most, max(FEWEST, int(SECONDS / plays / self._pace)))

    @cached_property
    def _pace(self) -> float:
        """Seconds of a step."""
        env, began, steps = self.make(), time.perf_counter(), 0
        start(env, 0)
        while steps < FEWEST and (time.perf_counter() - began < 1.0 or not steps):
            _, _, terminated, truncated, _ = env.step(env.sample())
            steps += 1
            if terminated or truncated:
                env.reset()
        return (time.perf_counter() - began) / steps


def gymnasium_says(env: gymnasium.Env[Any, Any], *, render: bool) -> Iterator[Finding]:
    """The messages of Gymnasium's own checker."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        failed: Exception | None = None
        try:
            if isinstance(env, MaskReader):
                env.reset(seed=0)
            masked = isinstance(env, MaskReader) and env.mask is not None
            with masks_heeded(env.unwrapped) if masked else nullcontext():
                gymnasium_check(env.unwrapped, skip_render_check=not render)
        except Exception as error:
            failed = error
    if failed is not None:
        message = _plain(str(failed)) if isinstance(failed, AssertionError) else ""
        message = message or _plain(reason_of(failed))
        yield Finding("gymnasium", f"Gymnasium's check_env fails: {message}", _advice(message))
    for text in dict.fromkeys(_plain(str(warning.message)) for warning in caught):
        if "not having a spec" not in text:  # a class is checked, not an id
            yield Finding("gymnasium", text, _advice(text), "warning")


def _advice(text: str) -> str:
    """Advice on a message of Gymnasium's checker."""
    return next((fix for words, fix in ADVICE.items() if words in text), ADVICE[""])


def _plain(text: str) -> str:
    """A message of Gymnasium's in one line, without its colours and its level."""
    return " ".join(plain(text).split()).removeprefix("WARN: ")


def checker(subject: Plain) -> Iterator[Finding]:
    """Gymnasium's own checker, except where it takes a value on a bound for one beyond it."""
    for finding in gymnasium_says(subject.make(), render=False):
        env = subject.make()
        inside = "not within the observation space" in finding.message and not [
            *_wrong_obs(env.observation_space, start(env, 0)[0])
        ]
        if not inside:
            yield finding


def declared(subject: Plain) -> Iterator[Finding]:
    """The spaces are such as training takes, in its own words where it does not."""
    env = subject.make()
    try:
        for name in observation_leaves(env.observation_space)[1]:
            fix = "Give what it says as numbers too, if the agent is to know it."
            yield Finding("spaces", f"'{name}' of the observations is text, which training leaves out.", fix, "warning")
    except ConfigError as refused:
        yield Finding("spaces", refused.cause[0].lower() + refused.cause[1:], refused.fix, "warning")
    try:
        Actions.for_space(env.action_space)
    except ConfigError as refused:
        yield Finding("spaces", refused.cause[0].lower() + refused.cause[1:], refused.fix, "warning")
    try:
        check_mask(env.observation_space, env.action_space)
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            mask_elsewhere(env, start(env, 0)[1], subject.name)
        for told in caught:
            yield Finding("masks", str(told.message), "Rename it if it is no mask.", "warning")
    except ConfigError as refused:
        yield Finding("masks", refused.cause[0].lower() + refused.cause[1:], refused.fix)
    if isinstance(env.action_space, spaces.Box) and not env.action_space.is_bounded():
        message = f"the action space {env.action_space} is unbounded: there is nothing to squash or clip actions into."
        yield Finding("spaces", message, "Give it finite bounds, such as Box(-1, 1), and scale in step.", "warning")


def values(subject: Plain) -> Iterator[Finding]:
    """Observations stay in their space and rewards finite over a thousand steps."""
    env, found = subject.make(), dict[str, Finding]()
    reward: Any
    obs, _ = start(env, 0)
    for _ in range(subject.steps(STEPS)):
        for finding in _wrong_obs(env.observation_space, obs):
            found.setdefault(finding.check, finding)
        obs, reward, terminated, truncated, _ = env.step(env.sample())
        if np.shape(reward) != () or not isinstance(reward, int | float | np.number | np.ndarray):
            message = f"the reward is {reward!r}, a {type(reward).__name__} of shape {np.shape(reward)}."
            weighed = "; one of several numbers is weighed by --env.reward-weights" if np.size(reward) > 1 else ""
            found["reward"] = Finding("shapes", message, f"Return a float{weighed}.")
        elif not np.isfinite(reward):
            message = f"the reward becomes {reward}."
            found["reward"] = Finding("numbers", message, "Keep it finite: clamp what it is computed from.")
        for name, flag in (("terminated", terminated), ("truncated", truncated)):
            if not isinstance(flag, bool | np.bool_):
                found[name] = Finding("types", f"{name} is {flag!r}, a {type(flag).__name__}.", "Return a bool.")
        if terminated or truncated:
            obs, _ = env.reset()
        if env.mask is not None and not env.mask.any():
            fix = "End the episode where nothing can be done, or allow an action that does nothing."
            message = "the action mask allows nothing although the episode goes on."
            found["mask"] = Finding("masks", message, fix)
    yield from found.values()


def _wrong_obs(space: spaces.Space, obs: Any, name: str = "the observation") -> Iterator[Finding]:
    """The reason why an observation is not in its space."""
    if isinstance(space, spaces.Dict | spaces.Tuple):
        parts: Any = space.spaces
        keys: list[Any] = list(parts) if isinstance(space, spaces.Dict) else list(range(len(parts)))
        given = list(obs) if isinstance(obs, dict) else list(range(len(obs)))
        if set(keys) != set(given):
            yield Finding(
                "shapes", f"{name} has the entries {given}, and its space {keys}.", "Give those of the space."
            )
            return
        for key in keys:
            yield from _wrong_obs(parts[key], obs[key], f"the observation's {key!r}")
        return
    if not isinstance(space, spaces.Box):
        if obs not in space:
            yield Finding(
                "bounds", f"{name} is {obs!r}, which is not in {space}.", "Mend the space, or what is returned."
            )
        return
    array = np.asarray(obs)
    if array.shape != space.shape:
        fix = "Return what the space says, or mend the space."
        yield Finding("shapes", f"{name} has shape {array.shape}, and its space {space.shape}.", fix)
        return
    if array.dtype != space.dtype:
        fix = f"Return obs.astype(np.{space.dtype}), or give the space dtype=np.{array.dtype}."
        yield Finding("types", f"{name} is of type {array.dtype}, and its space of type {space.dtype}.", fix)
    if array.dtype.kind == "f" and not np.isfinite(array).all():
        fix = "Look for divisions by 0, roots and logarithms of negative numbers, and states that grow without bound."
        yield Finding("numbers", f"{name} becomes {'NaN' if np.isnan(array).any() else 'infinite'}.", fix)
        return
    # In single precision, as agents see it: what lies on a bound but for the last digit is inside.
    held, low, high = (x.astype(np.float32) if x.dtype.kind == "f" else x for x in (array, space.low, space.high))
    for bound, beyond in ((low, held < low), (high, held > high)):
        if beyond.any():
            at = tuple(int(i[0]) for i in np.nonzero(beyond))
            index = f"[{', '.join(map(str, at))}]" if at else ""
            reached, end = (
                f"{x:g}" if f"{held[at]:g}" != f"{bound[at]:g}" else repr(x.item()) for x in (held[at], bound[at])
            )
            message = f"{name}{index} reaches {reached}, and its space ends at {end}."
            yield Finding("bounds", message, "Widen the space, or clip what is returned.")
            return


def vectorized(subject: Plain) -> Iterator[Finding]:
    """The vector environment registered under the same id, if it is used in training or is the user's own."""
    env = subject.make()
    spec = env.spec
    if spec is None or spec.vector_entry_point is None:
        return
    from rltrain.check.gymnasium_vec import findings_of

    used = find_native(Recipe(spec, {}), env, 4)
    if used is None and is_installed(spec.vector_entry_point):
        return
    vector = used or gymnasium.make_vec(spec, num_envs=4, vectorization_mode="vector_entry_point")
    try:
        yield from findings_of(vector)
    finally:
        vector.close()


def start(env: gymnasium.Env[Any, Any], seed: int) -> tuple[Any, dict[str, Any]]:
    """Resets, and seeds the random actions."""
    first = env.reset(seed=seed)
    env.action_space.seed(seed)  # after the reset, which may have replaced it
    return first
