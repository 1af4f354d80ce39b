"""The checks of environments that ``rltrain check`` and plugins' tests run."""

from __future__ import annotations

import copy
import reprlib
import time
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial
from typing import Any, TypeAlias

import gymnasium
import torch

from rltrain.adapters.gymnasium_ids import named_errors, registration_of
from rltrain.adapters.masks import MaskReader
from rltrain.check import gymnasium_env, gymnasium_episodes, gymnasium_vec, gymnasium_view, tensor_env, vec_env
from rltrain.check.gymnasium_env import Plain
from rltrain.check.op_counter import OpCounter
from rltrain.check.play import Player
from rltrain.check.report import Finding, Report
from rltrain.check.tensor_env import Tensors, place_of
from rltrain.check.vec_env import Adapted, Vec
from rltrain.devices import known_device
from rltrain.env import EnvClass
from rltrain.errors import ConfigError, RLTrainError
from rltrain.naming.arguments import typed
from rltrain.naming.environments import typed_env
from rltrain.naming.reasons import fix_of_init
from rltrain.plugins import resolve
from rltrain.registry import env_spec, env_specs, spec_of
from rltrain.rng import global_kept
from rltrain.vec import TensorVecEnv, VecEnv

Check: TypeAlias = Callable[[Any], Iterator[Finding]]

VECTOR_CHECKS: dict[str, Check] = {
    "shapes": vec_env.looks,
    "numbers": vec_env.numbers,
    "bounds": vec_env.bounds,
    "masks": vec_env.masks,
    "limits": vec_env.limits,
    "statistics": vec_env.statistics,
    "rows": vec_env.rows,
    "seeds": vec_env.seeds,
    "saving": vec_env.saving,
    "kept": vec_env.kept,
}
"""Checks of every :class:`~rltrain.vec.VecEnv`."""

TENSOR_CHECKS: dict[str, Check] = {
    "interface": tensor_env.interface,
    "spaces": tensor_env.declared,
    "registration": gymnasium_view.registration,
    "constants": tensor_env.constants,
    **VECTOR_CHECKS,
    "aliasing": tensor_env.in_place,
    "memory": tensor_env.purity,
    "autoreset": tensor_env.resets,
    "starts": tensor_env.starts,
    "devices": tensor_env.meta,
    "waits": tensor_env.waits,
    "gymnasium": gymnasium_view.checker,
    "numpy": gymnasium_view.episode,
    "numpy seeds": gymnasium_view.conventions,
    "numpy vector": gymnasium_view.vector,
    "pictures": gymnasium_view.pictures,
}
"""Further checks of a :class:`~rltrain.env.TensorEnv`."""

GYMNASIUM_CHECKS: dict[str, Check] = {
    "spaces": gymnasium_env.declared,
    "gymnasium": gymnasium_env.checker,
    "values": gymnasium_env.values,
    "seeds": gymnasium_episodes.seeds,
    "generators": gymnasium_episodes.generators,
    "aliasing": gymnasium_episodes.aliasing,
    "starts": gymnasium_episodes.starts,
    "vector": gymnasium_env.vectorized,
}
"""Checks of a plain :class:`gymnasium.Env`."""


def subject_of(
    env: str | EnvClass | gymnasium.Env[Any, Any], *, device: torch.device | str = "cpu", **kwargs: Any
) -> tuple[Tensors | Plain | Adapted, Mapping[str, Check]]:
    """The environment to check, and the checks that apply to it.

    Raises:
        ConfigError: There is no such environment.
    """
    if isinstance(env, gymnasium.Env):
        made_by = env.spec
        if made_by is None:
            make, one_object = _copies_of(env)
            return Plain(make, type(env.unwrapped).__name__, one_object=one_object), GYMNASIUM_CHECKS
        return Plain(partial(gymnasium.make, made_by, disable_env_checker=True), made_by.id), GYMNASIUM_CHECKS
    spec = env_spec(typed_env(env)) if isinstance(env, str) else spec_of(env)
    if not spec.vectorizer:
        ours = spec.id if spec.id in env_specs() else resolve(spec.entry_point)
        return Tensors(ours, device=device, **kwargs), TENSOR_CHECKS
    if spec.parameters is not None:  # of a library that steps N of them by itself
        return Adapted(spec, device, kwargs), VECTOR_CHECKS
    make = partial(gymnasium.make, registration_of(spec), disable_env_checker=True, **kwargs)
    return Plain(make, spec.id), GYMNASIUM_CHECKS


def _copies_of(env: gymnasium.Env[Any, Any]) -> tuple[Callable[[], gymnasium.Env[Any, Any]], bool]:
    """A function that gives copies, or always the same one where it cannot be copied; and whether that is so."""
    try:
        copy.deepcopy(env)
    except Exception:  # anything that its author raises
        return lambda: env, True
    return lambda: copy.deepcopy(env), False


def run_check(check: Check, subject: Any, name: str = "code") -> list[Finding]:
    """The findings of one check; an exception of the environment counts as a finding.

    A finding is told only if the check finds it twice: what happens once may be chance, in an environment that does not
    repeat itself.
    """
    found = _run_once(check, subject, name)
    again = {(finding.check, finding.fix) for finding in _run_once(check, subject, name)} if found else set()
    return [finding for finding in found if (finding.check, finding.fix) in again]


def _run_once(check: Check, subject: Any, name: str) -> list[Finding]:
    found: list[Finding] = []
    try:
        with global_kept(), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # warnings: a check that looks at them catches them itself
            for finding in check(subject):
                found.append(finding)
    except RLTrainError as error:
        found.append(Finding(name, error.cause, error.fix))
    except Exception as error:
        lines = str(error).strip().splitlines() or [""]
        message = f"{type(error).__name__}{place_of(error)}: {lines[0]}".rstrip(": ")
        found.append(Finding(name, f"{message}.".replace("..", "."), "Mend the line that is named."))
    return found


@typed("env")
def check_env(
    env: str | EnvClass | gymnasium.Env[Any, Any], *, device: torch.device | str = "cpu", **kwargs: Any
) -> Report:
    """Checks an environment: spaces, types, randomness, memory, devices, Gymnasium's conventions, speed.

    Args:
        env: An id of ours or of Gymnasium's, also as ``module:Id``; a class, of
            :class:`~rltrain.env.TensorEnv` or ``gymnasium.Env``; a function that makes one; or a ``gymnasium.Env``.
        device: Device on which a tensor environment is checked.
        **kwargs: Constructor arguments of the environment.

    Raises:
        ConfigError: There is no such environment, or it cannot be made.
    """
    return check_aloud(env, lambda name: None, device=device, **kwargs)


def check_aloud(
    env: str | EnvClass | gymnasium.Env[Any, Any],
    tell: Callable[[str], None],
    *,
    device: torch.device | str = "cpu",
    **kwargs: Any,
) -> Report:
    """As :func:`check_env`; ``tell`` is given the name of each check before it begins."""
    subject, checks = subject_of(env, device=known_device(device), **kwargs)
    tell("speed")
    if isinstance(subject, Tensors):
        facts = _tensor_facts(subject)
    else:
        facts = _plain_facts(subject) if isinstance(subject, Plain) else _vec_facts(subject.vec())
    return _report(subject.name, subject, checks, facts, tell)


def check_vec_env(env: VecEnv | gymnasium.vector.VectorEnv[Any, Any, Any]) -> Report:
    """Checks a vectorised environment. It is reset and stepped.

    Args:
        env: A :class:`~rltrain.vec.VecEnv` or a Gymnasium vector environment.

    Raises:
        ConfigError: It is neither.
    """
    if not all(hasattr(env, name) for name in ("reset", "step", "num_envs")):
        raise ConfigError(
            f"{reprlib.repr(env)} is no vector environment.", "Give what rltrain.make_vec or gymnasium.make_vec makes."
        )
    if isinstance(env, gymnasium.vector.VectorEnv):
        facts = _space_facts(env)
        return _report(type(env).__name__, env, {"vector": gymnasium_vec.findings_of}, facts)
    subject = Vec(env)
    name = type(env.env).__name__ if isinstance(env, TensorVecEnv) else type(env).__name__
    return _report(name, subject, VECTOR_CHECKS, _vec_facts(env))


def _report(
    name: str,
    subject: Any,
    checks: Mapping[str, Check],
    facts: dict[str, str],
    tell: Callable[[str], None] = lambda name: None,
) -> Report:
    passed: list[str] = []
    findings: dict[tuple[str, str], Finding] = {}
    for check_name, check in checks.items():
        tell(check_name)
        found = run_check(check, subject, check_name)
        if not found:
            passed.append(check_name)
        for finding in found:
            findings.setdefault((finding.message, finding.fix), finding)
        if found and check_name == "interface":  # all others would stumble over the same
            break
    ordered: Iterable[Finding] = sorted(findings.values(), key=lambda finding: finding.level)
    return Report(name, facts, passed, list(ordered))


def _space_facts(env: VecEnv | gymnasium.vector.VectorEnv[Any, Any, Any]) -> dict[str, str]:
    facts = {"environments": f"{env.num_envs:,}", "observation": _line(env.single_observation_space)}
    return {**facts, "action": _line(env.single_action_space)}


def _vec_facts(env: VecEnv) -> dict[str, str]:
    return {**_space_facts(env), "device": str(env.device), "speed": _tried(lambda: _speed(env))}


def _tensor_facts(subject: Tensors) -> dict[str, str]:
    try:
        env = subject.make()
    except ConfigError as refused:
        error = refused.__cause__
        if error is None:
            raise
        what = f"{type(error).__name__}{place_of(error)}: {error}"
        fix = fix_of_init(error) or "Mend its constructor."
        raise ConfigError(f"'{subject.name}' cannot be made: {what}", fix) from error
    cls = type(env)
    limit = env_spec(subject.env).max_episode_steps if isinstance(subject.env, str) else cls.max_episode_steps
    facts = {"class": f"{cls.__module__}:{cls.__qualname__}", "device": str(subject.device)}
    if hasattr(env, "observation_space") and hasattr(env, "action_space"):
        facts |= {"observation": _line(env.full_observation_space), "action": _line(env.action_space)}
    facts["time limit"] = f"{limit:,} steps" if limit else "none stated"
    facts["speed"] = _tried(lambda: _speed(subject.vec(1024)))
    return facts


def _plain_facts(subject: Plain) -> dict[str, str]:
    with named_errors(subject.name):
        env = subject.make()
    limit = env.spec.max_episode_steps if env.spec is not None else None
    return {
        "class": f"{type(env.unwrapped).__module__}:{type(env.unwrapped).__qualname__}",
        "observation": _line(env.observation_space),
        "action": _line(env.action_space),
        "time limit": f"{limit:,} steps" if limit else "none stated",
        "speed": _tried(lambda: _speed_of_one(env)),
    }


def _tried(measure: Callable[[], str]) -> str:
    try:
        return measure()
    except Exception as error:  # which the checks will name
        return f"not known: {type(error).__name__}"


def _speed_of_one(env: MaskReader) -> str:
    env.reset(seed=0)
    steps, started = 0, time.perf_counter()
    while time.perf_counter() - started < 0.3:
        _, _, terminated, truncated, _ = env.step(env.sample())
        steps += 1
        if terminated or truncated:
            env.reset()
    return f"{steps / (time.perf_counter() - started):,.0f} steps/s of one environment"


def _speed(vec: VecEnv) -> str:
    """Steps per second with random actions drawn beforehand, and dispatched operations per step."""
    obs, player = vec.reset(0), Player(vec)
    for _ in range(3):
        obs = vec.step(player(obs)).obs
    action = player(obs)
    with OpCounter() as counter:
        vec.step(action)
    steps, started = 0, time.perf_counter()
    while time.perf_counter() - started < 0.3:
        vec.step(action)
        if vec.device.type != "cpu":
            torch.accelerator.synchronize(vec.device)
        steps += 1
    seconds = (time.perf_counter() - started) / steps
    return (
        f"{vec.num_envs / seconds:,.0f} steps/s with {vec.num_envs:,} environments, "
        f"{seconds * 1e3:.2f} ms and {counter.total} operations a step"
    )


def _line(space: gymnasium.Space) -> str:
    return " ".join(str(space).split())


__all__ = [
    "GYMNASIUM_CHECKS",
    "TENSOR_CHECKS",
    "VECTOR_CHECKS",
    "Finding",
    "Report",
    "check_env",
    "check_vec_env",
    "run_check",
]
