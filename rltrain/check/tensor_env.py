"""Checks of a tensor environment: pure functions of its state, on any device, that never wait for the device."""

from __future__ import annotations

import copy
import math
from collections.abc import Iterator
from typing import Any

import torch
from gymnasium import spaces

from rltrain.check.op_counter import OpCounter
from rltrain.check.play import N, Player, changed, flat_obs, named, same
from rltrain.check.report import Finding
from rltrain.check.vec_env import Vec
from rltrain.env import TensorEnv
from rltrain.env_checks.owed import check_env
from rltrain.errors import ConfigError
from rltrain.make import env_parameters, make_env, make_tensor_vec
from rltrain.rng import generator_state, make_generator, set_generator_state
from rltrain.spaces import entries_of, random_actions, to_json
from rltrain.tree import from_dict, leaves, tree_map
from rltrain.vec import SUCCESS, TensorVecEnv

STARTS = 256  # start states to look at
TRIES = 32  # actions tried in each


class Tensors(Vec):
    """A tensor environment to be checked, made anew for every check.

    Args:
        env: A registered id, or a class.
        device: Device on which it is checked.
        **kwargs: Constructor arguments of the environment.
    """

    def __init__(self, env: str | type[TensorEnv[Any]], *, device: torch.device | str = "cpu", **kwargs: Any) -> None:
        self.env = env
        self.device = torch.device(device)
        self.kwargs = kwargs
        self.name = env if isinstance(env, str) else env.__name__

    def make(self, **kwargs: Any) -> TensorEnv[Any]:
        """A new environment."""
        return make_env(self.env, **{"device": self.device, **self.kwargs, **kwargs})

    def vec(
        self, num_envs: int = N, max_episode_steps: int | None = None, device: torch.device | str | None = None
    ) -> TensorVecEnv[Any]:
        """A vector of N, with their own time limit unless another is given."""
        where = self.device if device is None else device
        return make_tensor_vec(self.env, num_envs, device=where, max_episode_steps=max_episode_steps, **self.kwargs)

    def draws_nothing(self) -> bool:
        """Whether neither reset nor step draws random numbers."""
        vec, rng = self.vec(), make_generator(self.device, 0)
        before = generator_state(rng)
        state = vec.env.reset(N, rng)
        vec.env.step(state, Player(vec)(vec.env.full_observe(state)), rng)
        return torch.equal(generator_state(rng), before)


def interface(subject: Tensors) -> Iterator[Finding]:
    """Its methods return what they owe; if not, the error that training would give is the only finding."""
    try:
        check_env(subject.make())
    except ConfigError as error:
        if error.__cause__ is None:
            raise  # if a method raised something else, the checks that follow say in which line
    yield from ()


def declared(subject: Tensors) -> Iterator[Finding]:
    """The spaces are such as agents and Gymnasium can use."""
    env = subject.make()
    for what in ("observation_space", "action_space"):
        space = getattr(env, what, None)
        if not isinstance(space, spaces.Space):
            fix = f"Set self.{what} in __init__, or as an attribute of the class, to a Gymnasium space."
            yield Finding("spaces", f"{what} is {space!r}, not a space.", fix)
            return
        try:
            to_json(space)
        except ConfigError as error:
            yield Finding("spaces", f"{what}: {error.cause}", error.fix)
            return
        for name, part in entries_of(space).items():
            if isinstance(part, spaces.Box) and not (part.low < part.high).all():
                yield Finding("spaces", f"{what} {name} has a bound low that is not below high.", "Mend the bounds.")
    for name, part in entries_of(env.full_observation_space).items():
        if isinstance(part, spaces.Dict | spaces.Tuple):
            fix = "Agents take a flat Dict: give its entries names at the top level."
            yield Finding("spaces", f"the observation space has the entry '{name}' with entries of its own.", fix)
    if isinstance(env.action_space, spaces.Box) and not env.action_space.is_bounded():
        message = "the action space is unbounded: there is nothing to squash or clip actions into."
        yield Finding("spaces", message, "Give it finite bounds, such as Box(-1, 1), and scale in step.", "warning")
    try:
        make_env(subject.env, **{**env_parameters(subject.env), **subject.kwargs, "device": subject.device})
    except ConfigError as error:
        yield Finding("spaces", f"it cannot be made with its own default arguments: {error.cause}", error.fix)


def constants(subject: Tensors) -> Iterator[Finding]:
    """The constructor checks the numbers that it takes."""
    if subject.kwargs:
        return
    for name, value in env_parameters(subject.env).items():
        if type(value) is not float:
            continue
        for bad in (math.nan, math.inf, "long", None):
            try:
                subject.make(**{name: bad})
            except ConfigError as error:
                if name in error.cause and error.fix:
                    continue
                message = f"{name}={bad!r} is refused, but the error does not name it: {error.cause}"
            except Exception as error:
                message = f"{name}={bad!r} raises no ConfigError, but {type(error).__name__}: {error}"
            else:
                message = f"{name}={bad!r} is accepted."
            fix = f"In __init__: self.{name} = self.constant('{name}', {name}), with above=, at_least= or at_most=."
            yield Finding("constants", message, fix, "warning")
            break


def purity(subject: Tensors) -> Iterator[Finding]:
    """A step repeats itself from the same state, and every episode begins with a new start."""
    vec = subject.vec(N, 7)
    obs, player = vec.reset(0), Player(vec)
    rng = make_generator(subject.device, 0)
    fix = "Keep everything that the rules need in the state, none of it in attributes of the environment."
    for number in range(1, 41):
        before, saved = vec.state, copy.deepcopy(vec.state_dict())
        set_generator_state(rng, saved["rng"])
        action = player(obs)
        step = vec.step(action)
        led_to, reward, terminated = vec.env.step(before, action, rng)
        starts = from_dict(before, saved["starts"])
        done = step.terminated | step.truncated
        again = {"reward": (step.reward, reward.float()), "terminated": (step.terminated, terminated)}
        led, fresh = (flat_obs(vec.env.full_observe(state)) for state in (led_to, starts))
        for name, final in flat_obs(step.final_obs).items():
            now, where = flat_obs(step.obs)[name], f"the observation {name}".rstrip()
            again[where] = (final, led[name])
            again[f"{where} after a reset"] = (now[done], fresh[name][done])
            again[f"{where} where no episode ended"] = (now[~done], led[name][~done])
        for name, (one, other) in again.items():
            if not same(one, other):
                message = f"step gives another result from the same state, action and rng: {name}, in step {number}."
                yield Finding("memory", message, fix)
                return
        obs = step.obs


def in_place(subject: Tensors) -> Iterator[Finding]:
    """States are not changed in place, and returned tensors are not overwritten."""
    env, rng = subject.make(), make_generator(subject.device, 0)
    player = Player(subject.vec())
    state = env.reset(N, rng)
    held: dict[str, tuple[Any, Any]] = {}  # what was returned before, and a copy of it
    for _ in range(6):
        copied = copy.deepcopy(state)
        obs, info = env.full_observe(state), env.info(state)
        if names := changed(state, copied):
            message = f"observe, action_mask or info changes the state: {', '.join(names)}."
            yield Finding(
                "aliasing", message, "Compute from a copy: x + 1 and x.clamp(...), not x += 1 and x.clamp_(...)."
            )
            return
        action = player(obs)
        after, reward, terminated = env.step(state, action, rng)
        if names := changed(state, copied):
            yield Finding(
                "aliasing",
                f"step changes the state that it is given: {', '.join(names)}.",
                "Return a new state: x + 1 and torch.where(...), not x += 1, x[...] = y or x.add_(...).",
            )
            return
        parts = {"observe": obs, "info": info, "step (reward)": reward, "step (terminated)": terminated}
        for name, (returned, then) in held.items():
            if changed(returned, then):
                yield Finding(
                    "aliasing",
                    f"{name} returns the same memory in every call, which overwrites what it returned before.",
                    "Return a new tensor instead of filling one that the environment keeps.",
                )
                return
        held = {name: (part, copy.deepcopy(part)) for name, part in parts.items()}
        state = after


def starts(subject: Tensors) -> Iterator[Finding]:
    """Episodes are not over in their start states."""
    env, rng = subject.make(), make_generator(subject.device, 0)
    state = env.reset(STARTS, rng)
    solved = env.info(state).get(SUCCESS)
    fix = "Draw start states from those in which there is something left to do."
    if solved is not None and (count := int(solved.to(torch.bool).sum())) > STARTS / 2:  # a few may be by chance
        yield Finding("starts", f"{count} of {STARTS} episodes are a success before the first step.", fix, "warning")
    obs, cpu = env.full_observe(state), torch.device("cpu")
    mask = obs["action_mask"].cpu() if env.has_action_mask and isinstance(obs, dict) else None
    drawn, over = torch.Generator().manual_seed(0), torch.ones(STARTS, dtype=torch.bool, device=subject.device)
    for _ in range(TRIES):
        action = random_actions(env.action_space, STARTS, cpu, drawn, mask).to(subject.device)
        over &= env.step(state, action, rng)[2]
    if 0 < (count := int(over.sum())) < STARTS:  # where all end at once, the game has one step
        message = f"{count} of {STARTS} episodes end with their first step, whatever the action."
        yield Finding("starts", message, f"{fix} If the game is meant to be like that, ignore this.", "warning")


def resets(subject: Tensors) -> Iterator[Finding]:
    """The author's step does not reset; that is for the vectorised environment."""
    env, rng, other = subject.make(), make_generator(subject.device, 0), make_generator(subject.device, 1)
    player, state = Player(subject.vec()), env.reset(N, rng)
    begins = list(leaves(env.full_observe(env.reset(STARTS, rng))))
    one_start = all(same(leaf, leaf[:1].expand_as(leaf)) for leaf in begins)
    ends = suspicious = 0
    for _ in range(200):
        obs = env.full_observe(state)
        action = player(obs)
        after, _, over = env.step(state, action, rng)
        shown, before = list(leaves(env.full_observe(after))), list(leaves(obs))
        if one_start:  # an end that looks like the start, which the state before did not
            at_start, was_there = (
                torch.stack([(x == b[:1]).reshape(N, -1).all(1) for x, b in zip(each, begins, strict=True)]).all(0)
                for each in (shown, before)
            )
            suspicious += int((over & at_start & ~was_there).sum())
            ends += int((over & ~was_there).sum())
        else:  # chance decides what ends look like, and nothing else
            twin, _, over_too = env.step(state, action, other)
            differ = torch.stack(
                [(x != y).reshape(N, -1).any(1) for x, y in zip(shown, leaves(env.full_observe(twin)), strict=True)]
            ).any(0)
            if bool((differ & ~over & ~over_too).any()):
                return  # dynamics are random themselves
            suspicious += int((differ & over & over_too).sum())
            ends += int((over & over_too).sum())
        fresh = env.reset(N, rng)
        state = tree_map(lambda a, b, over=over: torch.where(over.view(-1, *(1,) * (a.dim() - 1)), a, b), fresh, after)
    if ends > 1 and suspicious >= 0.9 * ends:
        yield Finding(
            "autoreset",
            "where an episode ends, step returns the state of a new one: the agent never sees the last observation.",
            "Return the state in which the episode ended; the vectorised environment resets it in the same step.",
        )


def meta(subject: Tensors) -> Iterator[Finding]:
    """It runs on a device without data, so every tensor is made on the environment's device in a fixed shape."""
    real = subject.vec(N)
    expected = real.step(Player(real)(real.reset(0)))
    fix = "Make tensors with device=self.device; no .item(), .tolist(), .numpy() and no 'if' on a tensor."
    try:
        vec = subject.vec(N, device="meta")
        vec.reset(0)
        action = Player(real)(real.reset(0)).to("meta")
        step = vec.step(action)
    except Exception as error:
        lines = str(error).strip().splitlines() or [type(error).__name__]
        yield Finding("devices", f"it does not run on device='meta'{place_of(error)}: {lines[0]}", fix)
        return
    for (name, got), like in zip(named(step).items(), named(expected).values(), strict=True):
        if (got.device.type, got.shape, got.dtype) != ("meta", like.shape, like.dtype):
            message = f"on device='meta', {name} is {tuple(got.shape)} {got.dtype} on {got.device}, elsewhere "
            yield Finding("devices", f"{message}{tuple(like.shape)} {like.dtype}.", fix)


def waits(subject: Tensors) -> Iterator[Finding]:
    """The host never waits for the device."""
    vec = subject.vec(N, 3)
    obs, player = vec.reset(0), Player(vec)
    found: dict[str, str] = {}
    for _ in range(vec.env.reset_interval + 3):
        action = player(obs)
        with OpCounter() as counter:
            obs = vec.step(action).obs
        found |= dict(zip(counter.waits, counter.places, strict=True))
    fix = "Choose with torch.where instead of x[mask] and 'if'; draw by torch.rand and argmax instead of multinomial."
    for operation, place in found.items():
        yield Finding("waits", f"the host waits for the device in {operation.removesuffix('.default')}, {place}.", fix)
    if torch.cuda.is_available() and not found:
        gpu = subject.vec(N, 3, device="cuda")
        gpu.reset(0)
        action = action.to("cuda")
        gpu.step(action)  # the first one checks shapes
        torch.cuda.set_sync_debug_mode("error")
        try:
            for _ in range(gpu.env.reset_interval + 3):
                gpu.step(action)
        except RuntimeError as error:
            yield Finding("waits", f"the GPU is waited for{place_of(error)}: {error}", fix)
        finally:
            torch.cuda.set_sync_debug_mode("default")


def place_of(error: BaseException) -> str:
    """`` in walk.py line 41``: the last place in a traceback that is neither ours nor torch's."""
    place, frame = "", error.__traceback__
    while frame is not None:
        module = str(frame.tb_frame.f_globals.get("__name__", ""))
        if module.partition(".")[0] not in ("torch", "gymnasium", "numpy") and not module.startswith("rltrain.check"):
            name = frame.tb_frame.f_code.co_filename.replace("\\", "/").rpartition("/")[2]
            place = f" in {name} line {frame.tb_lineno}"
        frame = frame.tb_next
    return place
