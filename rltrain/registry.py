"""The registry of environments and agents: their names, and the paths of their classes.

A class is imported when it is first used, so listing the names needs no torch. :mod:`rltrain.plugins` finds the
packages that register, and has the registries of everything else.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypedDict, Unpack

from rltrain.errors import ConfigError
from rltrain.naming.algorithms import agent_meant
from rltrain.naming.arguments import is_blank, typed
from rltrain.naming.installed import module_fix
from rltrain.naming.reasons import VERSION, did_you_mean_env
from rltrain.plugins import Table, discover, path_of, resolve

if TYPE_CHECKING:
    from rltrain.agent import Agent
    from rltrain.config import AgentConfig
    from rltrain.env import EnvClass, TensorEnv

CONFIGS = "rltrain.configs"
"""The package with our own settings."""
GYMNASIUM_ENTRY_POINT = "rltrain.adapters.to_gymnasium:make_single"
OURS = "Run 'rltrain envs' for ours."
GYMNASIUM_VECTOR_ENTRY_POINT = "rltrain.adapters.to_gymnasium:make_vector"
FINDERS = (
    "rltrain.adapters.gymnasium_ids:find",
    "rltrain.adapters.from_envpool:find",
    "rltrain.adapters.from_gymnax:find",
    "rltrain.adapters.from_brax:find",
    "rltrain.naming.environments:find_typed",
)
"""Functions that know environments of other libraries: from an id to an :class:`EnvSpec`, or None."""
MODULE_FINDER = "rltrain.naming.environments:find"
"""The same for ``module:Id``, whose module it imports."""
CLASS_FINDER = "rltrain.adapters.gymnasium_ids:of_class"
"""The same for a class of Gymnasium's, or a function that makes one of its environments."""
OBJECT_READER = "rltrain.adapters.gymnasium_ids:take_apart"
"""From an environment that ``gymnasium.make`` made to its id, and its constructor arguments and time limit."""


@dataclass(frozen=True)
class EnvSpec:
    """A registered environment.

    Attributes:
        id: ``namespace/Name-vN``.
        entry_point: ``module:Class`` of a :class:`~rltrain.env.TensorEnv`, or the class itself.
        description: One line for ``rltrain envs``.
        group: The heading that ``rltrain envs`` lists it under; its namespace by default.
        max_episode_steps: Time limit in steps.
        reward_threshold: Mean episode return at which the task counts as solved.
        kwargs: Constructor arguments of this id.
        configs: Package whose ``<agent>/<environment>.yaml`` are settings for it, such as ``your_package.configs``.
        vectorizer: ``module:name`` of a function that makes a :class:`~rltrain.vec.VecEnv` of N environments from
            this spec, N and keywords; empty for a :class:`~rltrain.env.TensorEnv`.
        batched: Whether N of them are stepped as arrays, so that hundreds cost little more than one.
        parameters: Parameters of the constructor with their defaults; None to read them from ``entry_point``.
        options: Options around the environment that every agent trains with unless told otherwise, by the names of
            :class:`~rltrain.config.EnvConfig`, such as ``{"frame_stack": 4}``.
    """

    id: str
    entry_point: str | type
    description: str = ""
    group: str = ""
    max_episode_steps: int | None = None
    reward_threshold: float | None = None
    kwargs: Mapping[str, Any] = field(default_factory=dict)
    configs: str = CONFIGS
    vectorizer: str = ""
    batched: bool = True
    parameters: Mapping[str, Any] | None = None
    options: Mapping[str, Any] = field(default_factory=dict)


class EnvDetails(TypedDict, total=False):
    """The keyword arguments of :func:`register_env`: all fields of :class:`EnvSpec` but id and class."""

    description: str
    group: str
    max_episode_steps: int | None
    reward_threshold: float | None
    kwargs: Mapping[str, Any]
    configs: str
    vectorizer: str
    batched: bool
    parameters: Mapping[str, Any] | None
    options: Mapping[str, Any]


@dataclass(frozen=True)
class AgentSpec:
    """A registered agent.

    Attributes:
        name: Its name on the command line, after ``rltrain train``.
        entry_point: ``module:Class`` of an :class:`~rltrain.agent.Agent`, or the class itself.
        config: ``module:Class`` of its :class:`~rltrain.config.AgentConfig`, or the class itself.
        description: One line for ``rltrain agents``.
        configs: Package whose ``<agent>/<environment>.yaml`` are settings for it, such as ``your_package.configs``.
        stacked: ``module:Class`` of a :class:`~rltrain.agent.StackedAgent` made of several such agents; empty for none.
        trainer: ``module:Class`` of its trainer, if not :class:`rltrain.training.trainer.Trainer`.
        learns_from_data: Whether it learns from a dataset, by :class:`rltrain.training.offline.OfflineTrainer`.
    """

    name: str
    entry_point: str | type
    config: str | type
    description: str = ""
    configs: str = CONFIGS
    trainer: str = "rltrain.training.trainer:Trainer"
    stacked: str = ""
    learns_from_data: bool = False


class AgentDetails(TypedDict, total=False):
    """The keyword arguments of :func:`register_agent`: all fields of :class:`AgentSpec` but name and classes."""

    description: str
    configs: str
    trainer: str
    stacked: str
    learns_from_data: bool


_envs: dict[str, EnvSpec] = {}
_agents: Table[AgentSpec] = Table("agent", "Run 'rltrain agents' for the list.")


@typed()
def register_env(id: str, entry_point: str | EnvClass, **details: Unpack[EnvDetails]) -> None:
    """Makes an environment known to rltrain and to Gymnasium; see :class:`EnvSpec` for the details.

    Raises:
        ConfigError: The id is taken by another entry point, or that is no text, class or function.
    """
    import gymnasium

    if not (isinstance(entry_point, str) or callable(entry_point)):
        raise ConfigError(f"entry_point={entry_point!r} does not fit.", "Give 'module:Class', the class or a function.")
    check_tensors(entry_point, id)
    details.setdefault("max_episode_steps", getattr(entry_point, "max_episode_steps", None))
    details.setdefault("reward_threshold", getattr(entry_point, "reward_threshold", None))
    details.setdefault("group", id.rpartition("/")[0] or "other")
    spec = EnvSpec(id, entry_point, **details)
    known, path = _envs.get(id), path_of(entry_point)
    if known is not None and path_of(known.entry_point) != path:
        raise ConfigError(
            f"The environment id '{id}' is registered twice: by {path_of(known.entry_point)} and by {path}.",
            "Choose another id for one of them.",
        )
    if known is None and id in gymnasium.registry:
        raise ConfigError(
            f"The environment id '{id}' of {path} is taken: Gymnasium has it from "
            f"{gymnasium.registry[id].entry_point}.",
            "Choose another id, with a namespace of your own: 'you/Name-v0'.",
        )
    _envs[id] = spec
    gymnasium.registry.pop(id, None)  # registering again, as in a notebook, replaces the entry
    gymnasium.register(
        id,
        entry_point=GYMNASIUM_ENTRY_POINT,
        vector_entry_point=GYMNASIUM_VECTOR_ENTRY_POINT,
        max_episode_steps=spec.max_episode_steps,
        reward_threshold=spec.reward_threshold,
        kwargs={"env_id": id},
    )


@typed()
def register_agent(
    name: str, entry_point: str | type[Agent], config: str | type[AgentConfig], **details: Unpack[AgentDetails]
) -> None:
    """Makes an agent known; see :class:`AgentSpec`.

    Raises:
        ConfigError: The name is taken by another entry point.
    """
    _agents.add(AgentSpec(name, entry_point, config, **details))


def env_specs() -> dict[str, EnvSpec]:
    """All registered environments by id."""
    discover()
    return dict(sorted(_envs.items()))


def agent_specs() -> dict[str, AgentSpec]:
    """All registered agents by name."""
    discover()
    return dict(sorted(_agents.items()))


def env_spec(id: str) -> EnvSpec:
    """The environment registered as ``id``, here or in Gymnasium.

    An id written ``module:namespace/Name-v0`` imports ``module`` first, which is expected to register it. ``Name`` may
    also be a class in the module, or a function that makes an environment; ``module:`` stands for the only environment
    that the module has.

    Raises:
        ConfigError: There is no such environment, or something it needs is missing.
    """
    if is_blank(id):
        raise ConfigError(f"The id of the environment is blank: '{id}'.", f"Name one. {OURS}")
    module, colon, name = id.partition(":")
    if module.endswith(".py"):  # a file
        path = "" if "/" not in module else ", in the folder where it is"
        called = f"{module.rpartition('/')[2].removesuffix('.py')}{colon}{name}"
        raise ConfigError(f"'{id}' names a file.", f"Name its module{path}: {called}.")
    spec = resolve(MODULE_FINDER)(module, name, id) if colon else find_env(id)
    if spec is not None:
        return spec
    import gymnasium

    meant = did_you_mean_env(id, [*env_specs(), *gymnasium.registry], "")
    if meant and (id.lower() in meant.lower() or not VERSION.search(id)):  # only its case or its version is missing
        raise ConfigError(f"There is no environment '{id}'.", meant)
    raise ConfigError(f"There is no environment '{id}'.", f"{meant or OURS} {module_fix(id)}")


def find_env(name: str) -> EnvSpec | None:
    """The environment registered under a name, here or in Gymnasium; None if there is none.

    Raises:
        ConfigError: A package it needs is not installed.
    """
    if name in env_specs():
        return _envs[name]
    return next((spec for finder in FINDERS if (spec := resolve(finder)(name)) is not None), None)


def twin_of(spec: EnvSpec) -> str | None:
    """The id of the tensor environment for the same task as an adapted environment, if there is one."""
    name = f"rltrain/{spec.id.replace('/', '-')}"
    return name if spec.vectorizer and name in env_specs() else None


def spec_of(env: str | type) -> EnvSpec:
    """The spec of an id, or of a class or function that need not be registered.

    Raises:
        ConfigError: There is no such environment, or it is no class of one.
    """
    if isinstance(env, str):
        return env_spec(env)
    if not is_tensor_class(env):
        return resolve(CLASS_FINDER)(env)
    limit, threshold = (getattr(env, name, None) for name in ("max_episode_steps", "reward_threshold"))
    return EnvSpec(env.__name__, env, max_episode_steps=limit, reward_threshold=threshold)


def is_tensor_class(thing: object) -> bool:
    """Whether this is a subclass of :class:`~rltrain.env.TensorEnv`, known without importing torch."""
    bases = thing.__mro__[1:] if isinstance(thing, type) else ()
    return any((base.__module__, base.__name__) == ("rltrain.env", "TensorEnv") for base in bases)


def agent_spec(name: str) -> AgentSpec:
    """The agent registered as ``name``.

    Raises:
        ConfigError: There is no such agent.
    """
    if str(name).endswith("Policy"):
        raise ConfigError(
            f"'{name}' is a policy of Stable-Baselines3, and the first argument names the agent.",
            "Name an agent, such as ppo; what is observed decides which policy it has.",
        )
    if isinstance(name, str) and name not in agent_specs() and (fix := agent_meant(name, _agents)):
        raise ConfigError(f"There is no agent '{name}'.", fix)
    return _agents.find(name)


def env_class(env: str | type[TensorEnv]) -> type[TensorEnv]:
    """The class of a registered id; a class is returned as it is.

    Raises:
        ConfigError: It is not an environment of tensors.
    """
    spec = spec_of(env)
    if spec.vectorizer:
        raise ConfigError(
            f"'{spec.id}' is not an environment of tensors.",
            f"Use '{twin}', its device-resident twin." if (twin := twin_of(spec)) else "Use make_vec, which adapts it.",
        )
    cls = resolve(spec.entry_point)
    check_tensors(cls, spec.id)
    return cls


def check_tensors(cls: Any, id: str) -> None:
    """Refuses a class of Gymnasium's where one of tensors is to be registered.

    Raises:
        ConfigError: It is one.
    """
    import gymnasium

    if isinstance(cls, type) and issubclass(cls, gymnasium.Env):
        raise ConfigError(
            f"'{id}' is to be an environment of tensors, and {cls.__name__} is a gymnasium.Env.",
            f"Register it with Gymnasium, whose environments are known here: gymnasium.register('{id}', ...).",
        )


def agent_class(name: str) -> type[Agent]:
    """The class of a registered agent."""
    return resolve(agent_spec(name).entry_point)


def agent_config_class(name: str) -> type[AgentConfig]:
    """The config class of a registered agent."""
    return resolve(agent_spec(name).config)
