"""Checks of a tensor environment as Gymnasium's users see it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import gymnasium
import numpy as np
import torch
from gymnasium.utils.env_checker import data_equivalence
from gymnasium.vector import SyncVectorEnv

from rltrain.adapters.masks import MaskReader
from rltrain.adapters.to_gymnasium import SingleEnv, VectorEnv
from rltrain.check.gymnasium_env import gymnasium_says
from rltrain.check.report import Finding
from rltrain.check.tensor_env import Tensors
from rltrain.env import TensorEnv
from rltrain.errors import ConfigError
from rltrain.registry import agent_config_class, agent_specs, env_class, env_spec
from rltrain.rng import derive_seed, make_generator
from rltrain.settings import build_config
from rltrain.tree import leaves

FIX = "That is the work of rltrain.adapters.to_gymnasium: if the other checks pass, report it."


def single(subject: Tensors, **kwargs: Any) -> gymnasium.Env[Any, Any]:
    """A single environment, from Gymnasium's registry if it is registered there."""
    if isinstance(subject.env, str):
        return gymnasium.make(env_spec(subject.env).id, **subject.kwargs, **kwargs)
    return SingleEnv(subject.env, **subject.kwargs, **kwargs)


def registration(subject: Tensors) -> Iterator[Finding]:
    """The registration agrees with the class, and the tuned settings are valid."""
    if not isinstance(subject.env, str):
        return
    spec, cls, gymnasiums = env_spec(subject.env), env_class(subject.env), gymnasium.spec(env_spec(subject.env).id)
    if not issubclass(cls, TensorEnv):
        yield Finding("registration", f"{cls.__name__} is no TensorEnv.", "Register a subclass of rltrain.TensorEnv.")
        return
    for name in ("max_episode_steps", "reward_threshold"):
        told, mine = getattr(spec, name), getattr(cls, name)
        if not spec.kwargs and told != mine:  # a variant may be harder, longer or without a threshold
            message = f"it is registered with {name}={told}, and {cls.__name__}.{name} is {mine}."
            yield Finding("registration", message, "Give both the same value.", "warning")
        if getattr(gymnasiums, name) != told:
            message = f"Gymnasium knows it with {name}={getattr(gymnasiums, name)}, and we with {told}."
            yield Finding("registration", message, "Register it by rltrain.register_env alone.")
    if not spec.description.endswith("."):
        message = f"its description is {spec.description!r}."
        yield Finding("registration", message, "Give register_env a description of one sentence.", "warning")
    for algo in agent_specs():
        try:
            agent_config_class(algo)
        except ConfigError:  # what the agent needs is not installed: no fault of the environment's
            continue
        try:
            build_config(algo, spec.id)
        except ConfigError as error:
            yield Finding("registration", f"its settings for {algo} cannot be used: {error.cause}", error.fix)


def checker(subject: Tensors) -> Iterator[Finding]:
    """Gymnasium's own checker."""
    drawn = subject.make()
    yield from gymnasium_says(single(subject), render=type(drawn).render is not TensorEnv.render)


def episode(subject: Tensors) -> Iterator[Finding]:
    """A single episode in NumPy equals the one that the tensors play."""
    env, tensors = MaskReader(single(subject)), subject.make(device="cpu")  # where the single one is
    rng = make_generator(tensors.device, derive_seed(3, "env"))
    obs, _ = env.reset(seed=3)
    state = tensors.reset(1, rng)
    env.action_space.seed(0)
    for number in range(20):
        if obs not in env.observation_space:
            yield Finding("numpy", f"the observation {obs!r} is not in {env.observation_space}.", FIX)
            return
        if not _same_row(obs, tensors.full_observe(state)):
            message = f"the single environment in NumPy observes something other than the tensors, in step {number}."
            yield Finding("numpy", message, "Compute each row independently of the number of rows.")
            return
        action = env.sample()
        obs, reward, terminated, truncated, info = env.step(action)
        types = [type(x) for x in (reward, terminated, truncated, info)]
        if types != [float, bool, bool, dict]:
            yield Finding("numpy", f"step gives the types {types}.", FIX)
            return
        batch = torch.as_tensor(np.asarray(action)[None])
        state, rewards, ends = tensors.step(state, batch.to(tensors.device), rng)
        if (reward, terminated) != (float(rewards[0]), bool(ends[0])):
            yield Finding("numpy", f"reward or end differ from those of the tensors, in step {number}.", FIX)
            return
        if terminated or truncated:
            break


def conventions(subject: Tensors) -> Iterator[Finding]:
    """Seeds of the single environment: a seed starts a stream of episodes, and no seed continues it."""

    def starts(seed: int | None, resets: int = 12) -> list[Any]:
        env = single(subject)
        return [env.reset(seed=seed)[0], *(env.reset()[0] for _ in range(resets - 1))]

    first, again, other, unseeded = starts(7), starts(7), starts(8), starts(None)
    if not data_equivalence(first, again, exact=True):
        yield Finding("numpy", "equal seeds give other episodes.", "Draw from the rng that reset is given.")
    tensors = subject.make()
    many = list(leaves(tensors.full_observe(tensors.reset(256, make_generator(tensors.device, 0)))))
    if any(bool((leaf != leaf[:1]).any()) for leaf in many):  # otherwise every episode starts alike
        alike = [data_equivalence(first, x, exact=True) for x in (other, unseeded)]
        if any(alike) or all(data_equivalence(first[0], obs, exact=True) for obs in first):
            yield Finding("numpy", "other seeds give the same episodes.", "Draw from the rng that reset is given.")


def vector(subject: Tensors) -> Iterator[Finding]:
    """Observations and infos equal those of ``SyncVectorEnv``, with and without an episode that has just ended."""
    name = env_spec(subject.env).id if isinstance(subject.env, str) else subject.env
    ours = VectorEnv(name, 2, 3, **subject.kwargs)

    def limited() -> gymnasium.Env[Any, Any]:
        return gymnasium.wrappers.TimeLimit(SingleEnv(name, **subject.kwargs), 3)

    theirs = SyncVectorEnv([limited] * 2, autoreset_mode="SameStep")
    seen: list[dict[bool | None, list[Any]]] = []
    for env in (ours, theirs):
        env.action_space.seed(0)
        obs, infos = env.reset(seed=0)
        looks: dict[bool | None, list[Any]] = {None: [*_looks(obs), sorted(infos)]}
        for _ in range(7):
            obs, rewards, terminated, truncated, infos = env.step(env.action_space.sample())
            types = [x.dtype for x in (rewards, terminated, truncated)]
            looks[bool((terminated | truncated).any())] = [*_looks(obs), *types, sorted(infos)]
        seen.append(looks)
    for when in seen[0].keys() & seen[1].keys():
        if seen[0][when] != seen[1][when]:
            message = f"make_vec gives {seen[0][when]} where SyncVectorEnv gives {seen[1][when]}."
            yield Finding("numpy", message, "Give info the same names and types in every state.")


def pictures(subject: Tensors) -> Iterator[Finding]:
    """Pictures, if it can be drawn."""
    env, rng = subject.make(), make_generator(subject.device, 0)
    if type(env).render is TensorEnv.render:
        return
    state = env.reset(3, rng)
    drawn = [env.render(state, index) for index in range(3)]
    for picture in drawn:
        if not isinstance(picture, torch.Tensor):
            message = f"render returns a {type(picture).__name__}."
            yield Finding("pictures", message, "Return a tensor (H, W, 3) uint8 on the CPU.")
            return
        given = f"{tuple(picture.shape)} {picture.dtype} on {picture.device}"
        if picture.dim() != 3 or picture.shape[-1] != 3 or picture.dtype != torch.uint8 or picture.device.type != "cpu":
            yield Finding("pictures", f"render gives {given}.", "Return (H, W, 3) uint8 on the CPU.")
            return
        if picture.shape != drawn[0].shape:
            yield Finding("pictures", "pictures are of different sizes.", "Draw all of them in one size.")
            return
    if not torch.equal(env.render(state, 0), drawn[0]):
        yield Finding("pictures", "the same state gives different pictures.", "Draw the state, without chance.")
    shown = single(subject, render_mode="rgb_array")
    shown.reset(seed=0)
    if np.asarray(shown.render()).shape != tuple(drawn[0].shape):
        yield Finding("pictures", "Gymnasium's render gives another picture.", FIX)


def _looks(obs: Any) -> list[Any]:
    """Shapes and types."""
    if isinstance(obs, dict):
        return [(name, *_looks(obs[name])) for name in sorted(obs)]
    return [obs.shape, obs.dtype]


def _same_row(obs: Any, batch: Any) -> bool:
    """Whether a NumPy observation equals the only row of a batch of tensors."""
    if isinstance(obs, dict):
        return all(_same_row(part, batch[name]) for name, part in obs.items())
    return bool(np.array_equal(obs, batch[0].cpu().numpy()))
