"""Checks of a plain Gymnasium environment: one game at a time, in NumPy."""

from __future__ import annotations

import copy
import random
import re
import warnings
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces
from gymnasium.utils.env_checker import check_env as gymnasium_check
from gymnasium.utils.env_checker import data_equivalence

from rltrain.adapters.masks import MaskReader, masks_heeded
from rltrain.adapters.spaces import Actions, observation_leaves
from rltrain.check.report import Finding
from rltrain.errors import ConfigError

ADVICE = {
    "infinity. This is probably": "Give the space the bounds that values really have, if there are any.",
    "symmetric and normalized": "Make the action space Box(-1, 1), and scale actions in step.",
    "super().reset(seed=seed)": "Begin reset with super().reset(seed=seed), and draw from self.np_random.",
    "": "Gymnasium's documentation of gymnasium.Env says what that method must do.",
}
"""Advice by words in Gymnasium's messages; the last one fits all of them."""
STEPS = 1_000
Step = tuple[Any, Any, Any, Any]  # obs, reward, terminated, truncated


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
        """A new one, whose random actions are those that its mask allows."""
        return MaskReader(self._make())


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
        message = _plain(str(failed)) or type(failed).__name__
        yield Finding("gymnasium", f"Gymnasium's check_env fails: {message}", _advice(message))
    for text in dict.fromkeys(_plain(str(warning.message)) for warning in caught):
        if "not having a spec" not in text:  # a class is checked, not an id
            yield Finding("gymnasium", text, _advice(text), "warning")


def _advice(text: str) -> str:
    """Advice on a message of Gymnasium's checker."""
    return next((fix for words, fix in ADVICE.items() if words in text), ADVICE[""])


def _plain(text: str) -> str:
    """A message of Gymnasium's without its colours."""
    return re.sub(r"\x1b\[\d+m|^WARN: ", "", " ".join(text.split())).removeprefix("WARN: ")


def checker(subject: Plain) -> Iterator[Finding]:
    """Gymnasium's own checker, except where it takes a value on a bound for one beyond it."""
    for finding in gymnasium_says(subject.make(), render=False):
        env = subject.make()
        inside = "not within the observation space" in finding.message and not [
            *_wrong_obs(env.observation_space, _start(env, 0)[0])
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
    if isinstance(env.action_space, spaces.Box) and not env.action_space.is_bounded():
        message = f"the action space {env.action_space} is unbounded: there is nothing to squash or clip actions into."
        yield Finding("spaces", message, "Give it finite bounds, such as Box(-1, 1), and scale in step.", "warning")


def values(subject: Plain) -> Iterator[Finding]:
    """Observations stay in their space and rewards finite over a thousand steps."""
    env, found = subject.make(), dict[str, Finding]()
    reward: Any
    obs, _ = _start(env, 0)
    for _ in range(STEPS):
        for finding in _wrong_obs(env.observation_space, obs):
            found.setdefault(finding.check, finding)
        obs, reward, terminated, truncated, _ = env.step(sample(env, obs))
        if np.shape(reward) != () or not isinstance(reward, int | float | np.number | np.ndarray):
            message = f"the reward is {reward!r}, a {type(reward).__name__} of shape {np.shape(reward)}."
            found["reward"] = Finding("shapes", message, "Return a float.")
        elif not np.isfinite(reward):
            message = f"the reward becomes {reward}."
            found["reward"] = Finding("numbers", message, "Keep it finite: clamp what it is computed from.")
        for name, flag in (("terminated", terminated), ("truncated", truncated)):
            if not isinstance(flag, bool | np.bool_):
                found[name] = Finding("types", f"{name} is {flag!r}, a {type(flag).__name__}.", "Return a bool.")
        if terminated or truncated:
            obs, _ = env.reset()
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


def seeds(subject: Plain) -> Iterator[Finding]:
    """Equal seeds give equal episodes, in a new environment and in a used one."""
    first = list(_play(subject.make(), 5))
    _stir()
    where = _difference(first, list(_play(subject.make(), 5)))
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
    list(_play(used, 6))
    where = _difference(first, list(_play(used, 5)))
    if where is not None:
        yield Finding(
            "resets",
            f"an environment that has been played in before differs from a new one after the same reset {where}.",
            "Set everything anew in reset: step counters, totals, objects that an episode has changed.",
        )


def aliasing(subject: Plain) -> Iterator[Finding]:
    """Returned arrays stay as they are, and writing into them does not change the environment."""
    env = subject.make()
    obs, _ = _start(env, 0)
    for _ in range(50):
        action = sample(env, obs)
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
    plain, again = (list(_play(subject.make(), 5)) for _ in range(2))
    if _difference(plain, again) is not None:
        return  # it does not repeat itself anyway, so a difference would say nothing about what was written
    where = _difference(plain, list(_play(subject.make(), 5, spoil=True)))
    if where is not None:
        yield Finding(
            "aliasing",
            f"writing into an observation changes the environment: the episode goes on differently {where}.",
            "Return a copy of the state: self.state.copy().",
        )


def starts(subject: Plain) -> Iterator[Finding]:
    """Episodes after the first one last longer than one step, unless the first one did not either."""
    env, lengths = subject.make(), []
    obs, _ = _start(env, 0)
    length = 0
    for _ in range(STEPS):
        obs, _, terminated, truncated, _ = env.step(sample(env, obs))
        length += 1
        if terminated or truncated:
            lengths.append(length)
            obs, _ = env.reset()
            length = 0
    later = lengths[len(lengths) // 2 :]
    if len(later) > 5 and lengths[0] > 1 and set(later) == {1}:
        message = f"the first episode lasted {lengths[0]} steps, and later on every one ends with its first step."
        yield Finding("resets", message, "Clear in reset what makes step end an episode, such as a counter of steps.")


def vectorized(subject: Plain) -> Iterator[Finding]:
    """The vector environment registered under the same id, if any."""
    spec = subject.make().spec
    if spec is None or spec.vector_entry_point is None:
        return
    from rltrain.check.gymnasium_vec import findings_of

    vector = gymnasium.make_vec(spec, num_envs=4, vectorization_mode="vector_entry_point")
    try:
        yield from findings_of(vector)
    finally:
        vector.close()


def sample(env: gymnasium.Env[Any, Any], obs: Any) -> Any:
    """A random action that the mask allows."""
    return env.sample() if isinstance(env, MaskReader) else env.action_space.sample()


def _start(env: gymnasium.Env[Any, Any], seed: int) -> tuple[Any, dict[str, Any]]:
    first = env.reset(seed=seed)
    env.action_space.seed(seed)  # after the reset, which may have replaced it
    return first


def _play(env: gymnasium.Env[Any, Any], seed: int, *, steps: int = 100, spoil: bool = False) -> Iterator[Step]:
    """Plays some steps, across the ends of episodes; ``spoil`` writes nonsense into returned arrays."""
    obs, _ = _start(env, seed)
    actions = [sample(env, obs) for _ in range(steps)]
    yield copy.deepcopy(obs), 0.0, False, False
    for action in actions:
        if spoil:
            _spoil(obs)
        if isinstance(env, MaskReader) and env.mask is not None:
            action = sample(env, obs)
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
