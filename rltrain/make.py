"""Makes environments from registered names or classes, one or a vector of N, and checks their arguments."""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Any, cast

from rltrain.errors import ConfigError, RLTrainError, did_you_mean
from rltrain.naming.arguments import typed
from rltrain.naming.reasons import fix_of_init, reason_of
from rltrain.registry import OBJECT_READER, env_class, env_spec, resolve, spec_of
from rltrain.storage.values import restored

if TYPE_CHECKING:
    import torch

    from rltrain.env import EnvClass, TensorEnv
    from rltrain.vec import TensorVecEnv, VecEnv

OPTIONS = (
    ("grayscale", "resize", "frame_stack", "time_aware", "rescale_action"),
    ("atari", "vectorization", "start_method", "step_timeout", "reward_weights", "action_masks", "log_info"),
)
"""Options of :func:`make_vec` beside constructor arguments: for every environment, and for adapted ones only."""


@typed("env")
def make_env(
    env: str | type[TensorEnv],
    *,
    device: torch.device | str = "cpu",
    dtype: torch.dtype | None = None,
    **kwargs: Any,
) -> TensorEnv:
    """Makes an environment from an id or a class.

    Raises:
        ConfigError: The id is unknown, or a constructor argument is unknown or out of range.
    """
    from rltrain.devices import known_device

    cls, device = env_class(env), known_device(device)
    if isinstance(env, str):
        kwargs = {**env_spec(env).kwargs, **kwargs}
    if dtype is not None:
        kwargs["dtype"] = dtype
    parameters = env_parameters(cls)
    for key in kwargs:
        if key not in parameters and key != "dtype":
            raise ConfigError(
                f"{cls.__name__} has no constructor argument '{key}'.",
                did_you_mean(key, parameters, f"It takes: {', '.join(parameters) or 'none'}."),
            )
    if lacking := sorted(getattr(cls, "__abstractmethods__", ())):
        raise ConfigError(
            f"{cls.__name__} has no {' and no '.join(lacking)}.",
            "Write it: rltrain.TensorEnv says what each method owes.",
        )
    try:
        return cls(device=device, **kwargs)
    except RLTrainError:
        raise
    except Exception as error:
        fix = fix_of_init(error) or "Mend its __init__; --debug shows where it failed."
        raise ConfigError(f"{cls.__name__} cannot be made: {reason_of(error)}.", fix) from error


def env_parameters(env: str | type[TensorEnv]) -> dict[str, Any]:
    """The constructor arguments of an environment with their defaults, device and dtype left out."""
    signature = inspect.signature(env_class(env).__init__)
    return {
        name: parameter.default
        for name, parameter in signature.parameters.items()
        if name not in ("self", "device", "dtype") and parameter.kind is not parameter.VAR_KEYWORD
    }


def text_parameters(env: str | type) -> set[str]:
    """The constructor arguments of an environment that are text, as far as its signature says so."""
    entry_point = spec_of(env).entry_point
    try:
        parameters = inspect.signature(resolve(entry_point)).parameters
    except Exception:  # it has no signature, or needs what is not installed, which is said where it is made
        return set()
    return {
        name
        for name, parameter in parameters.items()
        if isinstance(parameter.default, str) or parameter.annotation in (str, "str")
    }


def taken_apart(env: Any) -> tuple[Any, dict[str, Any]]:
    """An environment as N like it are made of: an environment that ``gymnasium.make`` made becomes its id and options.

    Ids, classes and functions stay as they are.

    Raises:
        ConfigError: It is an object that cannot be made again.
    """
    if isinstance(env, str | type) or not hasattr(env, "step"):
        return env, {}
    import gymnasium

    if isinstance(env, gymnasium.Env):
        return resolve(OBJECT_READER)(env)
    return env, {}


@typed("env", "num_envs", "max_episode_steps")
def make_vec(
    env: str | EnvClass,
    num_envs: int,
    *,
    device: torch.device | str = "cpu",
    dtype: torch.dtype | None = None,
    max_episode_steps: int | None = None,
    render: bool = False,
    **options: Any,
) -> VecEnv[Any]:
    """Makes N environments, stepped together, their data on ``device``.

    Args:
        env: An id, ours or Gymnasium's, a :class:`~rltrain.env.TensorEnv` or ``gymnasium.Env`` class, a function
            that makes one, or an environment that ``gymnasium.make`` made, of which others like it are made.
        num_envs: N.
        device: Device of the data.
        dtype: Floating-point type of states and observations; float32 unless given.
        max_episode_steps: Time limit in steps; the registered one unless given.
        render: Make environments to be drawn: a finished one is left as it is and must be reset by hand.
        **options: Those of :class:`~rltrain.config.EnvConfig`, such as ``frame_stack=4``, and constructor arguments of
            the environment.

    Raises:
        ConfigError: As in :func:`make_env`, ``num_envs`` is below 1, or an option does not fit the environment.
    """
    from rltrain.devices import known_device
    from rltrain.vec import check_counts
    from rltrain.wrappers import wrap

    check_counts(num_envs, max_episode_steps)
    device = known_device(device)
    env, taken = taken_apart(env)
    options = {**taken.pop("kwargs", {}), **options}
    max_episode_steps = max_episode_steps or taken.get("max_episode_steps")
    spec = spec_of(env)
    around, adapting = ({name: options.pop(name) for name in names if name in options} for names in OPTIONS)
    if "log_info" in adapting and spec.group != "gymnasium":
        if spec.vectorizer:
            raise ConfigError(
                f"Numbers in the info of '{spec.id}' are not known: {spec.group} steps it.", "Leave --log-info out."
            )
        del adapting["log_info"]  # tensor environments give all that they have
    if spec.group != "gymnasium":
        adapting.pop("action_masks", None)  # elsewhere a mask is nothing but a part of the observation
    options = restored(options, lambda: resolve(spec.entry_point), spec.id)
    common: dict[str, Any] = {"device": device, "dtype": dtype, "max_episode_steps": max_episode_steps}
    if spec.vectorizer:
        return wrap(resolve(spec.vectorizer)(spec, num_envs, render=render, **common, **adapting, **options), **around)
    if adapting:
        name = next(iter(adapting))
        raise ConfigError(
            f"'{name}' is not for '{spec.id}', whose environments are tensors.",
            f"Leave --env.{name.replace('_', '-')} out.",
        )
    ours = cast("str | type[TensorEnv]", env)  # a class of Gymnasium's has a vectorizer
    vec = make_tensor_vec(ours, num_envs, autoreset=not render, **common, **options)
    vec.check()
    return wrap(vec, **around)


def make_tensor_vec(
    env: str | type[TensorEnv],
    num_envs: int,
    *,
    device: torch.device | str = "cpu",
    dtype: torch.dtype | None = None,
    max_episode_steps: int | None = None,
    autoreset: bool = True,
    **kwargs: Any,
) -> TensorVecEnv:
    """As :func:`make_vec`, for a tensor environment without wrappers."""
    from rltrain.vec import TensorVecEnv

    if max_episode_steps is None and isinstance(env, str):
        max_episode_steps = env_spec(env).max_episode_steps
    made = make_env(env, device=device, dtype=dtype, **kwargs)
    return TensorVecEnv(made, num_envs, max_episode_steps=max_episode_steps, autoreset=autoreset)
