"""The configuration of a run: typed, checked before anything is created, the same from YAML, CLI and Python."""

from __future__ import annotations

import reprlib
from collections.abc import Mapping, Sequence
from importlib.resources import files
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

import yaml
from pydantic import BaseModel, ConfigDict, Field, SerializeAsAny, ValidationError, ValidationInfo, field_validator

from rltrain.errors import ConfigError, did_you_mean
from rltrain.registry import agent_config_class, agent_specs, spec_of
from rltrain.specs import CONFIGS, EnvSpec

M = TypeVar("M", bound=BaseModel)
Side = Annotated[int, Field(ge=1, le=4096)]

ALIASES = {"n_envs": "num_envs", "n_timesteps": "total_timesteps"}
"""RL Zoo's spellings of our names."""
POLICIES = ("MlpPolicy", "CnnPolicy", "MultiInputPolicy")
"""What RL Zoo's ``policy`` says; here the observation space decides."""


class Model(BaseModel):
    """A part of the configuration. Field docstrings are its help texts."""

    model_config = ConfigDict(
        extra="forbid", allow_inf_nan=False, use_attribute_docstrings=True, protected_namespaces=()
    )

    @field_validator("*", mode="before")
    @classmethod
    def _true_is_no_number(cls, value: Any, info: ValidationInfo) -> Any:
        """Refuses what an option without its value reads as, which pydantic would take for 1."""
        if isinstance(value, bool) and cls.model_fields[str(info.field_name)].annotation is not bool:
            raise ValueError("it needs a value other than true or false")
        return value


class AgentConfig(Model):
    """The hyperparameters of an agent; each agent has its own subclass."""


class EnvConfig(Model):
    """Which environment, and what it is made with."""

    id: str
    """Environment id, such as rltrain/CartPole-v1."""
    kwargs: dict[str, Any] = Field(default_factory=dict)
    """Constructor arguments, such as --env.kwargs.gravity 1.6."""
    max_episode_steps: Annotated[int, Field(ge=1, lt=2**31)] | None = None
    """Steps after which an episode is truncated; none for the environment's own limit."""
    frame_stack: Annotated[int, Field(ge=1, le=1024)] = 1
    """How many of the last observations are seen at once."""
    grayscale: bool = False
    """Pictures in gray."""
    resize: Side | tuple[Side, Side] | None = None
    """Height and width that pictures are made smaller to, such as 84 or [84, 84]."""
    time_aware: bool = False
    """The share of the time limit that has passed, beside the observation."""
    rescale_action: bool = False
    """Agents act in [-1, 1], which is scaled to the bounds of the environment's actions."""
    atari: bool = False
    """Atari's usual preparation: 84x84 in gray, every fourth frame, up to 30 steps of waiting at the start."""
    vectorization: Literal["auto", "sync", "async", "vector"] = "auto"
    """How Gymnasium's environments are stepped: a loop, worker processes, their own vector form, or what is faster."""
    start_method: Literal["fork", "spawn", "forkserver"] | None = None
    """How worker processes are started; none for Python's own choice."""

    @field_validator("kwargs")
    @classmethod
    def _not_ours(cls, value: dict[str, Any]) -> dict[str, Any]:
        for name in {"env", "spec", "num_envs", "device", "dtype", "render"} & value.keys():
            raise ValueError(f"'{name}' is not for the environment's constructor")
        for name in (cls.model_fields.keys() - {"id", "kwargs"}) & value.keys():
            raise ValueError(f"'{name}' is an option: --env.{name.replace('_', '-')}")
        return value

    def make_options(self) -> dict[str, Any]:
        """What :func:`~rltrain.making.make_vec` is given beside the id: constructor arguments, and options set."""
        fields = type(self).model_fields
        own = {name: getattr(self, name) for name in fields if name not in ("id", "kwargs")}
        return {**self.kwargs, **{name: value for name, value in own.items() if value != fields[name].default}}


class TrainConfig(Model):
    """Everything that decides a run."""

    algo: str
    """Name of the agent, such as ppo."""
    env: EnvConfig
    agent: SerializeAsAny[AgentConfig]
    num_envs: Annotated[int, Field(ge=1, lt=2**31)] = 8
    """Environments stepped together."""
    total_timesteps: Annotated[int, Field(ge=1, lt=2**63)] = 1_000_000
    """Environment steps to train for, counted over all environments."""
    seed: Annotated[int, Field(ge=0, lt=2**63)] = 0
    """Seed of everything random in the run."""
    device: str = "auto"
    """cpu, cuda, cuda:N, or auto: the GPU when there is one."""
    nproc: Annotated[int, Field(ge=1, le=4096)] = 1
    """Processes on this machine that train together, each in its share of the environments."""
    num_threads: Annotated[int, Field(ge=1)] | None = None
    """Threads of torch on the CPU; none for torch's own choice. One is fastest for small networks."""
    compile: bool = False
    """Have torch.compile make fewer kernels of acting, stepping and learning; on a GPU they are CUDA graphs."""
    bfloat16: bool = False
    """Let networks multiply in bfloat16, by torch's autocast; parameters stay float32."""
    run_dir: str = "runs"
    """Folder in which the run's own folder is made."""
    stop_at_reward: float | None = None
    """Stop when the mean return of the last stats-window-size training episodes reaches this."""
    init_from: str | None = None
    """Run, checkpoint, or zip of Stable-Baselines3 whose policy to start from."""
    eval_freq: Annotated[int, Field(ge=0)] = 0
    """Environment steps between evaluations during training; 0 for none."""
    n_eval_episodes: Annotated[int, Field(ge=0)] = 100
    """Episodes of an evaluation, also of the one at the end; 0 leaves that out."""
    save_freq: Annotated[int, Field(ge=0)] = 100_000
    """Environment steps between checkpoints; 0 for one at the end alone."""
    keep_checkpoints: Annotated[int, Field(ge=1)] = 3
    """How many of the latest checkpoints to keep, beside the best."""
    video_freq: Annotated[int, Field(ge=0)] = 0
    """Environment steps between videos of an episode; 0 for none."""
    log_interval: Annotated[int, Field(ge=1)] | None = None
    """Policy updates between two log points; none for each one of an agent that makes few, and about every thousand
    environment steps of one that makes many."""
    stats_window_size: Annotated[int, Field(ge=1)] = 100
    """Finished episodes that rollout/* statistics are averaged over."""


def build_config(
    algo: str,
    env: str | type,
    overrides: Mapping[str, Any] | None = None,
    *,
    base: tuple[dict[str, Any], str] | None = None,
) -> tuple[TrainConfig, str]:
    """The configuration of a run: defaults, then the tuned file, then the overrides.

    Args:
        algo: Name of a registered agent.
        env: Environment id, or a class.
        overrides: Nested dict in the shape of :class:`TrainConfig`, RL Zoo's aliases allowed.
        base: Settings to use instead of the tuned file, and where they come from.

    Returns:
        The configuration, and where its defaults came from, for the user to read.

    Raises:
        ConfigError: An unknown agent, environment or key, or a value out of range.
    """
    agent_config = agent_config_class(algo)
    spec = spec_of(env)
    defaults, source = base or tuned_defaults(algo, spec)
    data = merge(defaults, canonical(dict(overrides or {})))
    data = merge(data, {"algo": algo, "env": {"id": spec.id}})
    agent = validate(agent_config, data.get("agent", {}), "agent.")
    misplaced = [f"agent.{name}" for name in agent_config.model_fields]
    return validate(TrainConfig, {**data, "agent": agent}, also=misplaced), source


def tuned_defaults(algo: str, env: EnvSpec) -> tuple[dict[str, Any], str]:
    """The shipped settings for an agent on an environment, and the name of their file.

    Looked up by the id (``/`` as ``-``), then its namespace; then, for batched environments, ``default``: in the
    package of settings that the environment was registered with, which may name it without a namespace, then in that
    of the agent, then in ours. All others start from the agent's own defaults, which are Stable-Baselines3's.
    """
    agent = agent_specs().get(algo)
    packages = [env.configs, *([agent.configs] if agent is not None else [])]
    namespace, _, bare = env.id.rpartition("/")
    for package in dict.fromkeys([*packages, CONFIGS]):
        try:
            folder = files(package) / algo
        except ModuleNotFoundError as error:
            raise ConfigError(
                f"The settings of '{env.id}' are said to be in '{package}', which cannot be found: {error}.",
                "Mend configs= where it is registered, or install the package again with its files.",
            ) from error
        default = "default" if env.batched else ""
        for name in (env.id, namespace if package == CONFIGS else bare, default):
            name = name.replace("/", "-").replace(":", "-")
            file = folder / f"{name}.yaml"
            if name and file.is_file():
                source = f"{algo}/{name}.yaml" if package == CONFIGS else f"{algo}/{name}.yaml of {package}"
                return canonical(parse_yaml(file.read_text(encoding="utf-8"), source)), source
    return {}, "the agent's own defaults" + ("" if env.batched else ", which are Stable-Baselines3's")


def load_config(path: str | Path) -> dict[str, Any]:
    """Reads a configuration file as a nested dict.

    Raises:
        ConfigError: The file cannot be read or is not a YAML mapping.
    """
    try:
        text = Path(path).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "it is not text"
        raise ConfigError(f"The config file '{path}' cannot be read: {reason}.", "Check its path.") from error
    return parse_yaml(text, str(path))


def parse_yaml(text: str, name: str) -> dict[str, Any]:
    """A YAML mapping as a dict; ``name`` is used in the error."""
    try:
        data = yaml.safe_load(text)
    except (yaml.YAMLError, ValueError) as error:  # ValueError: a date or number that there is not
        mark = getattr(error, "problem_mark", None)
        where = f" in line {mark.line + 1}" if mark else ""
        raise ConfigError(f"'{name}' is not valid YAML{where}.", "Mend the file.") from error
    if not isinstance(data, dict):
        raise ConfigError(f"'{name}' holds no settings.", "A config file is a YAML mapping of option: value.")
    return {str(key): value for key, value in data.items()}


def canonical(data: dict[str, Any]) -> dict[str, Any]:
    """The same settings with aliases replaced by our names, and a bare environment id made a mapping.

    Raises:
        ConfigError: A setting is given under two names, or ``env`` or ``policy`` is nothing we know.
    """
    for alias, name in ALIASES.items():
        if alias in data and name in data:
            raise ConfigError(f"'{alias}' and '{name}' are both given.", "They are the same: give one of them.")
    data = {ALIASES.get(key, key): value for key, value in data.items()}
    if isinstance(data.get("env"), str):
        data["env"] = {"id": data["env"]}
    if not isinstance(data.get("env", {}), Mapping):
        raise ConfigError(f"env={data['env']!r} does not fit.", "Give an id, or a mapping of id and kwargs.")
    if "policy" in data and (policy := data.pop("policy")) not in POLICIES:
        raise ConfigError(f"There is no policy '{policy}'.", f"It is one of {', '.join(POLICIES)}, or left out.")
    if "frame_stack" in data:
        data = merge({"env": {"frame_stack": data.pop("frame_stack")}}, data)
    if isinstance(data.get("normalize"), bool):
        both = dict.fromkeys(("normalize_obs", "normalize_reward"), data.pop("normalize"))
        data = merge({"agent": both}, data)
    return data


def merge(base: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """``base`` with the values of ``over`` laid on top, nested mappings merged key by key."""
    merged = dict(base)
    for key, value in over.items():
        inner = merged.get(key)
        merged[key] = merge(inner, value) if isinstance(inner, Mapping) and isinstance(value, Mapping) else value
    return merged


def validate(model: type[M], data: Any, prefix: str = "", also: Sequence[str] = ()) -> M:
    """Checks data against a model.

    Args:
        model: What it should be.
        data: What it is.
        prefix: Put before the names of options in errors.
        also: Names to suggest for an unknown key beside those of the model.

    Raises:
        ConfigError: With the first thing wrong, and the nearest key for an unknown one.
    """
    try:
        return model.model_validate(data)
    except ValidationError as error:
        raise _explain(error, model, prefix, also) from error


def _explain(error: ValidationError, model: type[BaseModel], prefix: str, also: Sequence[str]) -> ConfigError:
    # An unknown key goes first: it may be why another is missing.
    first = min(error.errors(include_url=False), key=lambda each: each["type"] != "extra_forbidden")
    path = [str(part) for part in first["loc"] if _is_field(part)]
    where = prefix + ".".join(path) if path else prefix.removesuffix(".")
    if first["type"] == "extra_forbidden":
        known = [*_fields_at(model, path[:-1]), *(also if len(path) == 1 else ())]
        listing = f"Known here: {', '.join(known)}." if len(known) <= 12 else "Run 'rltrain train --help' for the list."
        return ConfigError(f"There is no option '{where}'.", did_you_mean(path[-1], known, listing))
    if first["type"] == "missing":
        return ConfigError(f"The option '{where}' is missing.", "Give it on the command line or in the config file.")
    given = reprlib.repr(first["input"])
    if first["type"] == "model_type":
        example = f"{where}.{_fields_at(model, path)[0]}"
        return ConfigError(f"{where}={given} does not fit.", f"Give one of its options, such as {example}.")
    message = first["msg"].removeprefix("Value error, ")
    message = message[0].lower() + message[1:]
    return ConfigError(f"{where}={given} does not fit: {message}.", f"Give {where} another value.")


def _is_field(part: int | str) -> bool:
    """Tells keys from the names of union branches that pydantic puts into a location."""
    return isinstance(part, int) or (not any(mark in part for mark in "[(") and part not in ("int", "float", "str"))


def _fields_at(model: type[BaseModel], path: list[str]) -> list[str]:
    for part in path:
        inner = model.model_fields[part].annotation if part in model.model_fields else None
        if not (isinstance(inner, type) and issubclass(inner, BaseModel)):
            return []
        model = inner
    return list(model.model_fields)


def to_yaml(config: BaseModel) -> str:
    """The configuration as a YAML file that ``rltrain train --config`` reads back."""
    return yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False)


Activation = Literal["tanh", "relu", "silu", "elu", "gelu", "leaky_relu"]
