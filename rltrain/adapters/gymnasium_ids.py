"""Gymnasium's registered environments: found by id, made with checked arguments, and errors in plain words."""

from __future__ import annotations

import copy
import functools
import importlib
import inspect
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import gymnasium
from gymnasium import error as gymnasium_errors
from gymnasium.envs.registration import EnvSpec as GymnasiumSpec
from gymnasium.envs.registration import load_env_creator

from rltrain.adapters.kinds import FOREIGN, refusal
from rltrain.adapters.loop import Recipe
from rltrain.errors import ConfigError, RLTrainError, did_you_mean
from rltrain.naming.habits import NOT_OURS
from rltrain.naming.reasons import command_in, fix_at, reason_of, remedy_for
from rltrain.registry import EnvSpec

VECTORIZER = "rltrain.adapters.from_gymnasium:GymVecEnv"
HOMES = {
    "ALE/": ("ale_py", "ale-py"),
    "dm_control/": ("shimmy", '"shimmy[dm-control]"'),
    "BabyAI-": ("minigrid", "minigrid"),
    "MiniGrid-": ("minigrid", "minigrid"),
    "MiniWorld-": ("miniworld", "miniworld"),
    "MinAtar/": ("minatar.gym", "minatar"),
    r".*[A-Za-z](NoFrameskip|Deterministic|-ram)-v[04]$": ("ale_py", "ale-py"),
}
"""The module that registers well-known ids, and what to install for it, by a pattern of how the ids begin.

The last is that of Atari games by the names that Stable-Baselines3's and CleanRL's guides have.
"""
NO_DISPLAY = ("OpenGL", "gladLoadGL", "GLFW", "glfw", "glGetError", "eglQuery", "DISPLAY", "No available video device")
"""Words in the errors of what draws where there is no display."""
BY_CREATOR = "was raised from the environment creator"  # so that it is about the arguments of the constructor
UNDRAWN = "'rltrain eval' plays it without drawing."
ATARI = {"atari": True, "frame_stack": 4}
"""What every agent sees of an Atari game unless told otherwise."""


def find(id: str) -> EnvSpec | None:
    """The environment that Gymnasium has under an id; None if it has none.

    The packages of :data:`HOMES` are imported for their ids; all others are expected to have been imported.

    Raises:
        ConfigError: The id belongs to a well-known package that is not installed.
    """
    if id not in gymnasium.registry:
        home = next((home for pattern, home in HOMES.items() if re.match(pattern, id)), None)
        if home is not None:
            _import_home(id, *home)
    spec = gymnasium.registry.get(id)
    return None if spec is None else _adapted(spec)


def of_class(maker: Any) -> EnvSpec:
    """A class that is not registered, or a function that makes an environment, under its own name.

    Raises:
        ConfigError: It is neither.
    """
    if isinstance(maker, type) and issubclass(maker, gymnasium.Env):
        return _adapted(GymnasiumSpec(maker.__name__, entry_point=maker))  # type: ignore[arg-type]
    if isinstance(maker, type | gymnasium.Env) or not callable(maker):
        raise refusal(maker, repr(maker) if maker is None or isinstance(maker, int | float) else "")
    name = getattr(maker, "__name__", type(maker).__name__)
    return _adapted(GymnasiumSpec(re.sub(r"[^\w./-]", "", name) or "env", entry_point=_checked(maker, name)))


def _checked(maker: Callable[..., Any], name: str) -> Callable[..., Any]:
    """A function that makes an environment, with an error in words where it makes something else."""

    @functools.wraps(maker)
    def make(*args: Any, **kwargs: Any) -> gymnasium.Env:
        env = maker(*args, **kwargs)
        if not isinstance(env, gymnasium.Env):
            raise refusal(env, f"what {name} makes")
        return env

    return make


def take_apart(env: gymnasium.Env) -> tuple[Any, dict[str, Any]]:
    """An environment that ``gymnasium.make`` made as what N like it are made of.

    Args:
        env: The environment. It is not used itself.

    Returns:
        Its id, or a function that makes others where it has wrappers that the id knows nothing of; and options of the
        configuration: ``kwargs`` and ``max_episode_steps`` where they differ from those registered.

    Raises:
        ConfigError: It was not made by ``gymnasium.make``, or has a wrapper that cannot be made again.
    """
    spec = env.spec
    if spec is None:
        raise refusal(env)
    known = gymnasium.registry.get(spec.id)
    kwargs = {name: value for name, value in spec.kwargs.items() if name != "render_mode"}
    unlimited = spec.max_episode_steps is None and known is not None and known.max_episode_steps is not None
    if known is not None and not spec.additional_wrappers and not unlimited:
        options: dict[str, Any] = {}
        if given := {name: value for name, value in kwargs.items() if not _is_same(value, known.kwargs.get(name))}:
            options["kwargs"] = given
        if spec.max_episode_steps != known.max_episode_steps:
            options["max_episode_steps"] = spec.max_episode_steps
        return spec.id, options
    if lost := next((each.name for each in spec.additional_wrappers if each.kwargs is None), None):
        raise ConfigError(
            f"The wrapper {lost} around '{spec.id}' does not say how it was made, so it cannot be made again.",
            "Give a function that makes the environment with its wrappers: def make(): return ...",
        )
    spec = copy.deepcopy(spec)
    spec.kwargs = kwargs

    def make(**others: Any) -> gymnasium.Env:
        return gymnasium.make(spec, **others)

    space, _, name = spec.id.rpartition("/")
    make.__name__ = make.__qualname__ = f"{space}{'/' if space else ''}Wrapped-{name}"
    return make, {}


def _is_same(a: Any, b: Any) -> bool:
    try:
        return bool(a == b)
    except ValueError:  # arrays
        return False


def _adapted(spec: GymnasiumSpec) -> EnvSpec:
    return EnvSpec(
        spec.id,
        spec.entry_point,  # type: ignore[arg-type]
        description=f"Gymnasium's {spec.id}",
        group="gymnasium",
        max_episode_steps=spec.max_episode_steps,
        reward_threshold=spec.reward_threshold,
        vectorizer=VECTORIZER,
        batched=False,
        options=ATARI if _draws_atari(spec) else {},
    )


def _draws_atari(spec: GymnasiumSpec) -> bool:
    """Whether observations are frames of an Atari game, which need preparing."""
    entry_point = spec.entry_point if isinstance(spec.entry_point, str) else ""
    return entry_point.startswith("ale_py") and spec.kwargs.get("obs_type", "rgb") != "ram"


def _import_home(id: str, module: str, package: str) -> None:
    try:
        home = importlib.import_module(module)
    except Exception as error:
        if isinstance(error, ModuleNotFoundError) and error.name == module.partition(".")[0]:
            raise ConfigError(
                f"'{id}' needs the package {package}, which is not installed.", f"pip install {package}"
            ) from error
        what, fix = remedy_for(error) or ("", f"Install it again: pip install {package}")
        needs = (
            f"'{id}' needs {what}" if what else f"'{id}' needs {package}, which cannot be imported: {reason_of(error)}"
        )
        raise ConfigError(f"{needs}.", fix) from error
    register = getattr(home, "register_envs", None)
    if register is not None and id not in gymnasium.registry:
        register()


def make_recipe(
    spec: EnvSpec,
    kwargs: dict[str, Any],
    max_episode_steps: int | None,
    *,
    atari: bool,
    render: bool,
    reward_weights: Sequence[float] | None = None,
) -> Recipe:
    """The recipe of an environment, with checked constructor arguments.

    Raises:
        ConfigError: An argument is unknown, something is not installed, or the environment cannot be drawn.
    """
    creator = load_creator(spec)
    known = constructor_parameters(creator)
    if atari and known is not None and "frameskip" not in known:
        raise ConfigError(f"'{spec.id}' is not an Atari game: its frames cannot be prepared.", "Leave --env.atari out.")
    if atari and kwargs.get("obs_type") == "ram":
        raise ConfigError(
            f"'{spec.id}' with obs_type=ram gives no frames to prepare.", "Give --env.atari false --env.frame-stack 1."
        )
    for key, value in kwargs.items():
        if key == "render_mode":
            raise ConfigError(f"env.kwargs.{key} is set where '{spec.id}' is drawn.", NOT_OURS[key])
        if known is not None and isinstance(known.get(key), bool) and isinstance(value, str):
            raise ConfigError(f"'{spec.id}': {key}={value!r} is neither true nor false.", "Give true or false.")
        if known is not None and key not in known:
            listing = f"It takes: {', '.join(known) or 'none'}."
            raise ConfigError(f"'{spec.id}' has no constructor argument '{key}'.", did_you_mean(key, known, listing))
    mode = render_mode_of(spec.id, creator) if render else None
    weights = None if reward_weights is None else tuple(reward_weights)
    return Recipe(registration_of(spec), dict(kwargs), max_episode_steps, atari, mode, weights)


def registration_of(spec: EnvSpec) -> GymnasiumSpec:
    """What ``gymnasium.make`` makes an environment of: its registration, or a new one for a class or a function."""
    registered = gymnasium.registry.get(spec.id)
    if registered is None or registered.entry_point != spec.entry_point:
        return GymnasiumSpec(spec.id, entry_point=spec.entry_point)  # type: ignore[arg-type]
    return registered


def render_mode_of(id: str, creator: Any) -> str | None:
    """The render mode in which an environment draws pictures; None if it takes none and may draw all the same.

    Raises:
        ConfigError: It says that it draws otherwise.
    """
    modes = (getattr(creator, "metadata", None) or {}).get("render_modes") or []
    if modes:
        mode = next((mode for mode in ("rgb_array", "rgb_array_list") if mode in modes), None)
        if mode is None:
            raise ConfigError(
                f"'{id}' draws no pictures.", f"It would need the render mode rgb_array; it has {modes}. {UNDRAWN}"
            )
        return mode
    parameters = inspect.signature(creator).parameters
    takes_any = any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters.values())
    return "rgb_array" if takes_any or "render_mode" in parameters else None


def load_creator(spec: EnvSpec) -> Any:
    """The class or function that makes the environment.

    Raises:
        ConfigError: It cannot be imported.
    """
    with named_errors(spec.id):
        return load_env_creator(spec.entry_point) if isinstance(spec.entry_point, str) else spec.entry_point


def constructor_parameters(creator: Any) -> dict[str, Any] | None:
    """The arguments of a constructor with their defaults; None if it takes any."""
    parameters = inspect.signature(creator).parameters
    if any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters.values()):
        return None
    return {
        name: parameter.default
        for name, parameter in parameters.items()
        if name != "render_mode" and parameter.kind is not parameter.VAR_POSITIONAL
    }


@contextmanager
def named_errors(id: str, doing: str = "made") -> Iterator[None]:
    """Turns whatever making or drawing an environment raises into one line for the cause and one for the fix.

    Args:
        id: Its id.
        doing: What is done with it: ``made`` or ``drawn``.

    Raises:
        ConfigError: Instead of any error that is not one of rltrain's.
    """
    try:
        yield
    except RLTrainError as error:
        if id in error.cause:
            raise
        raise type(error)(f"'{id}': {error.cause}", error.fix) from error.__cause__
    except (Exception, SystemExit) as error:
        reason = reason_of(error)
        if any(word in str(error) for word in NO_DISPLAY):
            raise ConfigError(
                f"'{id}' cannot be drawn here: {reason}.",
                "Where there is no display, set MUJOCO_GL=egl (or osmesa); for pygame, SDL_VIDEODRIVER=dummy.",
            ) from error
        if remedy := remedy_for(error):
            raise ConfigError(f"'{id}' needs {remedy[0]}.", remedy[1]) from error
        if doing == "drawn" and isinstance(error, NotImplementedError):
            raise ConfigError(f"'{id}' draws no pictures: it has no render().", UNDRAWN) from error
        if lacking := re.search(r"missing \d+ required [\w-]+ arguments?: ((?:'\w+'(?:,? and |, )?)+)", str(error)):
            first, *_ = names = re.findall(r"'(\w+)'", lacking[1])
            raise ConfigError(
                f"'{id}' needs the constructor arguments {', '.join(names)}, which were not given.",
                f"Give them by name: --env.kwargs.{first.replace('_', '-')} VALUE, or env_kwargs={{'{first}': ...}}.",
            ) from error
        if isinstance(error, gymnasium_errors.DependencyNotInstalled | ImportError):
            fix = command_in(error) or "Install what is named there."
            what = reason.partition(": ")[2] or reason
            raise ConfigError(f"'{id}' needs something that is not installed: {what}.", fix) from error
        if "Gym is incompatible with Gymnasium" in reason:
            raise ConfigError(f"'{id}' is {FOREIGN['gym'][0]}.", FOREIGN["gym"][1]) from error
        if BY_CREATOR in reason and (unknown := re.search(r"unexpected keyword argument '(\w+)'", reason)):
            raise ConfigError(
                f"'{id}' cannot be made: it has no constructor argument '{unknown[1]}'.",
                f"Leave --env.kwargs.{unknown[1].replace('_', '-')} out, or look its name up.",
            ) from error
        otherwise = UNDRAWN.rstrip(".") if doing == "drawn" else ""
        raise ConfigError(f"'{id}' cannot be {doing}: {reason}.", fix_at(error, otherwise=otherwise)) from error
