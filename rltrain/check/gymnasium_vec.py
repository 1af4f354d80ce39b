"""Checks of a Gymnasium vector environment, above all of its autoreset convention."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import Any

import gymnasium
import numpy as np
from gymnasium.utils.env_checker import data_equivalence
from gymnasium.vector import AutoresetMode

from rltrain.check.report import Finding

STEPS = 1_000
MODES = ", ".join(f"AutoresetMode.{mode.name}" for mode in AutoresetMode)


def findings_of(env: gymnasium.vector.VectorEnv[Any, Any, Any]) -> Iterator[Finding]:
    """All findings about a vector environment, which is reset for it."""
    mode = env.metadata.get("autoreset_mode")
    if not isinstance(mode, AutoresetMode):
        fix = f"Set metadata['autoreset_mode'] to one of {MODES}."
        yield Finding("autoreset", f"its metadata has autoreset_mode={mode!r}.", fix)
    if mode is AutoresetMode.NEXT_STEP:
        yield Finding(
            "autoreset",
            "it resets in the step after an end, in which the action does nothing: a transition that must not be "
            "learned from.",
            "rltrain steps such environments one by one in same-step mode instead; offer AutoresetMode.SAME_STEP.",
            "warning",
        )
    yield from _walk(env, mode)
    first, again = _play(env, 5), _play(env, 5)
    if not data_equivalence(first, again, exact=True):
        fix = "Seed every generator in reset(seed=seed), and draw from nothing else."
        yield Finding("seeds", "two runs from the same seed differ.", fix)


def _walk(env: gymnasium.vector.VectorEnv[Any, Any, Any], mode: Any) -> Iterator[Finding]:
    n, found = env.num_envs, {}
    env.action_space.seed(0)
    obs, _ = env.reset(seed=0)
    ended = np.zeros(n, dtype=bool)
    for number in range(1, STEPS + 1):
        held = copy.deepcopy(obs)
        after, reward, terminated, truncated, infos = env.step(env.action_space.sample())
        if not data_equivalence(obs, held, exact=True):
            message = "step writes over the observations that it returned before."
            found["aliasing"] = Finding("aliasing", message, "Return copies, or copy=True.")
        obs = after
        if obs not in env.observation_space:
            message = f"the observations of step {number} are not in {env.observation_space}."
            found["obs"] = Finding("shapes", message, "Return (N, *O) in the type and the bounds of the space.")
        for name, part in (("reward", reward), ("terminated", terminated), ("truncated", truncated)):
            if np.shape(part) != (n,):
                message = f"{name} has shape {np.shape(part)} for {n} environments."
                found[name] = Finding("shapes", message, f"Return shape ({n},).")
        if {"reward", "terminated", "truncated"} & found.keys():
            break
        if not np.isfinite(np.asarray(reward, dtype=float)).all():
            found["finite"] = Finding("numbers", "the reward becomes NaN or infinite.", "Keep it finite.")
        done = np.asarray(terminated, dtype=bool) | np.asarray(truncated, dtype=bool)
        if mode is AutoresetMode.NEXT_STEP and (done & ended).any():
            message = "an episode ends in the step that should have been its reset."
            found["mode"] = Finding("autoreset", message, f"It acts as none of {MODES}: mend step or the metadata.")
        if mode is AutoresetMode.NEXT_STEP and np.asarray(reward)[ended].any():
            message = "there is a reward in the step that should be a reset: it does not reset in the next step."
            found["mode"] = Finding("autoreset", message, "Declare the mode that it acts by in its metadata.")
        if mode is AutoresetMode.SAME_STEP and done.any():
            shown = np.asarray(infos.get("_final_obs", np.zeros(n, dtype=bool)))
            if "final_obs" not in infos or not shown[done].all():
                message = "an episode ends, and infos['final_obs'] does not hold what its last action led to."
                fix = "Put it there, with the mask infos['_final_obs']: truncated episodes are learned with it."
                found["mode"] = Finding("autoreset", message, fix)
        ended = done
        if mode is AutoresetMode.DISABLED and done.any():
            obs, _ = env.reset(options={"reset_mask": done})
            ended = np.zeros(n, dtype=bool)
    yield from found.values()


def _play(env: gymnasium.vector.VectorEnv[Any, Any, Any], seed: int) -> list[Any]:
    env.action_space.seed(seed)
    obs, _ = env.reset(seed=seed)
    seen = [copy.deepcopy(obs)]
    for _ in range(50):
        obs, reward, terminated, truncated, _ = env.step(env.action_space.sample())
        seen.append(copy.deepcopy((obs, reward, terminated, truncated)))
        if env.metadata.get("autoreset_mode") is AutoresetMode.DISABLED and (terminated | truncated).any():
            env.reset(options={"reset_mask": terminated | truncated})
    return seen
