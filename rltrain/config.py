"""The configuration of a run: typed models, checked before anything is created."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from enum import Enum
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PlainSerializer,
    SerializeAsAny,
    ValidationInfo,
    field_serializer,
    field_validator,
)

from rltrain.errors import ConfigError
from rltrain.schedules import Schedule
from rltrain.storage.values import to_plain

Side = Annotated[int, Field(ge=1, le=4096)]


class Model(BaseModel):
    """A part of the configuration. Field docstrings are its help texts."""

    model_config = ConfigDict(
        extra="forbid",
        allow_inf_nan=False,
        ser_json_inf_nan="constants",
        use_attribute_docstrings=True,
        protected_namespaces=(),
    )

    @field_validator("*", mode="before")
    @classmethod
    def _true_is_no_number(cls, value: Any, info: ValidationInfo) -> Any:
        """Refuses True, which an option without a value reads as, and which pydantic would take for 1."""
        annotation = cls.model_fields[str(info.field_name)].annotation
        if isinstance(value, bool) and bool not in (annotation, *get_args(annotation)):
            raise ValueError("it needs a value other than true or false")
        return value


class RankShare(Enum):
    """What each of several ranks gets of a hyperparameter whose value is meant for all of them together."""

    EQUAL = "divided among the ranks; a value that they cannot divide is an error"
    ROUNDED = "divided among the ranks and rounded down, to 1 at least; 0 stays 0"


DividedAmongRanks = RankShare.EQUAL
"""Marks a size such as ``batch_size``, of which every rank must have the same:
``batch_size: Annotated[int, Field(ge=1), DividedAmongRanks] = 64``. With ``| None`` the marker stands outside:
``Annotated[int | None, DividedAmongRanks]``."""
CountedOverRanks = RankShare.ROUNDED
"""Marks a number of transitions or environment steps, such as ``buffer_size``, that all ranks count together."""


class AgentConfig(Model):
    """The hyperparameters of an agent; each agent has its own subclass.

    Fields that ranks divide are marked with :data:`DividedAmongRanks` or :data:`CountedOverRanks`.
    """

    @classmethod
    def rank_shares(cls) -> Iterator[tuple[str, RankShare]]:
        """The marked fields, by name."""
        for name, field in cls.model_fields.items():
            yield from ((name, mark) for mark in field.metadata if isinstance(mark, RankShare))


class EnvConfig(Model):
    """The environment and its options."""

    id: str
    """Environment id, such as rltrain/CartPole-v1."""
    kwargs: dict[str, Any] = Field(default_factory=dict)
    """Constructor arguments, such as --env.kwargs.gravity 1.6."""
    max_episode_steps: Annotated[int, Field(ge=1, lt=2**31)] | None = None
    """Steps after which an episode is truncated; none for the environment's own limit."""
    frame_stack: Annotated[int, Field(ge=1, le=1024)] = 1
    """How many of the last observations the agent sees at once."""
    grayscale: bool = False
    """Make images gray."""
    resize: Side | tuple[Side, Side] | None = None
    """Height and width to shrink images to, such as 84 or [84, 84]."""
    time_aware: bool = False
    """Add the share of the time limit that has passed to the observation."""
    rescale_action: bool | None = None
    """Let agents act in [-1, 1], scaled to the bounds of the action space; none to do so where these are far off."""
    action_masks: bool = True
    """Show agents the action mask that a Gymnasium environment gives in info, or by its method action_masks()."""
    reward_weights: list[float] | None = None
    """Weights that make one number of a reward that is a vector, such as 1 0.5."""
    atari: bool = False
    """Atari's usual preparation: 84x84 in gray, every fourth frame, up to 30 steps of waiting at the start."""
    vectorization: Literal["auto", "sync", "async", "vector"] = "auto"
    """How Gymnasium's environments are stepped: in a loop, by workers, in their own vector form, or what is faster."""
    start_method: Literal["fork", "spawn", "forkserver"] | None = None
    """How worker processes are started; none for Python's own choice."""
    step_timeout: Annotated[float, Field(gt=0)] | None = None
    """Seconds that an environment of Gymnasium may take for a step, before it is an error; none for no limit."""

    @field_validator("reward_weights", mode="before")
    @classmethod
    def _numbers(cls, value: Any) -> Any:
        """A list, also as text or as one number: ``1 0.5`` or ``1, 0.5``."""
        if isinstance(value, int | float):
            return [value]
        return value.replace(",", " ").split() if isinstance(value, str) else value

    @field_validator("kwargs")
    @classmethod
    def _not_ours(cls, value: dict[str, Any]) -> dict[str, Any]:
        for name in {"env", "spec", "num_envs", "device", "dtype", "render"} & value.keys():
            raise ValueError(f"'{name}' is not for the environment's constructor")
        for name in (cls.model_fields.keys() - {"id", "kwargs"}) & value.keys():
            raise ValueError(f"'{name}' is an option: --env.{name.replace('_', '-')}")
        return value

    @field_serializer("kwargs", when_used="json")
    def _plain(self, value: dict[str, Any]) -> dict[str, Any]:
        """What :func:`~rltrain.storage.values.from_plain` reads back equal."""
        return {name: to_plain(each) for name, each in value.items()}

    def make_options(self) -> dict[str, Any]:
        """Arguments of :func:`~rltrain.make.make_vec` beside the id: constructor arguments and options.

        ``rescale_action`` is always among them: by default agents get help that the function does not give unasked.
        """
        return {**self.given(), "rescale_action": self.rescale_action}

    def given(self) -> dict[str, Any]:
        """Those of the arguments that are not the defaults of training."""
        fields = type(self).model_fields
        own = {name: getattr(self, name) for name in fields if name not in ("id", "kwargs")}
        return {**self.kwargs, **{name: value for name, value in own.items() if value != fields[name].default}}


def _split(value: Any) -> Any:
    """Words as a list, also as text: ``csv tensorboard`` or ``csv, tensorboard``."""
    return value.replace(",", " ").split() if isinstance(value, str) else [] if value is None else value


def _pairs(value: Any) -> Any:
    """``encoder=0.1 vf=2`` as a dict."""
    if isinstance(value, Mapping):
        return value
    pairs = [str(word).partition("=") for word in _split(value)]
    if wrong := next((word for word, sign, _ in pairs if not (word and sign)), None):
        raise ValueError(f"'{wrong}' has no factor: give {wrong}=0.1")
    return {word: factor for word, _, factor in pairs}


Names = Annotated[list[str], BeforeValidator(_split)]
Factors = Annotated[dict[str, Annotated[float, Field(gt=0)]], BeforeValidator(_pairs)]


class HealthConfig(Model):
    """Thresholds from which a run is said to be unwell; see docs/health.md."""

    enabled: bool = True
    """Look at the metrics for what can be wrong with the run, and say it."""
    entropy_share: Annotated[float, Field(ge=0)] = 0.02
    """Entropy collapse: share of the entropy of random actions, or of the first deviation."""
    kl: Annotated[float, Field(gt=0)] = 0.2
    """KL blow-up: KL divergence of an update."""
    explained_variance: float = 0.0
    """Explained variance at which the value function is said to be no good."""
    gradient_growth: Annotated[float, Field(gt=1)] = 100.0
    """Gradient explosion: multiple of the usual norm."""
    dead_gradient: Annotated[float, Field(ge=0)] = 1e-7
    """Dead gradient: its norm."""
    q_excess: Annotated[float, Field(gt=0)] = 1.5
    """Overestimation: multiple of the largest possible return."""
    value_spread: Annotated[float, Field(ge=0)] = 0.01
    """Value saturation: deviation of values as a share of that of returns."""
    dead_spread: Annotated[float, Field(ge=0)] = 1e-6
    """Value saturation and dead critics: deviation of action values, relative to their size."""
    improvement: Annotated[float, Field(ge=0)] = 0.05
    """Return stuck: improvement of the return, relative to its first value."""
    evaluation_gap: Annotated[float, Field(gt=0)] = 0.5
    """Evaluation far below training: share of the range of training returns."""
    throughput_share: Annotated[float, Field(ge=0, lt=1)] = 0.4
    """Throughput fall: share of the best speed of this session."""
    throughput_after: Annotated[float, Field(ge=0)] = 20.0
    """Throughput fall: seconds of training in a session from which on its speed is judged."""
    dead_statistics: Annotated[float, Field(gt=0)] = 0.5
    """Dead normaliser: share of statistics that have never changed; above 1 for never."""
    temperature_high: Annotated[float, Field(gt=0)] = 10.0
    """Temperature of SAC that is too high."""
    temperature_low: Annotated[float, Field(ge=0)] = 1e-5
    """Temperature of SAC that is too low."""


class CostConfig(Model):
    """What a machine costs, from prices of your own; see docs/cost.md. --prices FILE fills it in."""

    machine: str | None = None
    """Name of the machine in the file of prices."""
    price_per_hour: Annotated[float, Field(ge=0)] | None = None
    """Price of an hour of one machine."""
    currency: str = ""
    """What the price is in, such as EUR."""
    watts: Annotated[float, Field(gt=0)] | None = None
    """Power of one machine, for an estimate of the energy."""
    date: str | None = None
    """Day on which the price was looked up."""
    energy: bool = False
    """Estimate the energy by codecarbon, offline, rather than from the watts."""


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
    """cpu, cuda, cuda:N, another accelerator that torch sees (mps, xpu), or auto: the CUDA GPU when there is one."""
    nproc: Annotated[int, Field(ge=1, le=4096)] = 1
    """Processes on this machine that train together, each with its share of the environments."""
    num_threads: Annotated[int, Field(ge=1, le=4096)] | None = None
    """Threads of torch on the CPU; none for torch's own choice. One is fastest for small networks."""
    compile: bool = False
    """Compile acting, stepping and learning by torch.compile; on a GPU they become CUDA graphs."""
    bfloat16: bool = False
    """Run networks in bfloat16 under torch's autocast; parameters stay float32."""
    run_dir: str = "runs"
    """Folder in which the run's own folder is created."""
    fallback_dir: str | None = None
    """Folder on another disk for a last checkpoint, if the run's own folder cannot be written."""
    if_save_fails: Literal["stop", "continue"] = "stop"
    """Whether to stop if a checkpoint cannot be written, or to go on until the next one is due."""
    stop_at_reward: float | None = None
    """Stop when the mean return of the last stats-window-size training episodes reaches this."""
    max_cost: Annotated[float, Field(gt=0)] | None = None
    """Stop when the run has cost so much, in the currency of --prices."""
    cost: CostConfig = CostConfig()
    data: str | None = None
    """Dataset to learn from, for agents that do; its folder, kept as an absolute path."""
    reward_model: str | None = None
    """Reward model to learn from in place of the environment's reward: its folder, or that of the preferences."""
    init_from: str | None = None
    """Run, checkpoint, or zip of Stable-Baselines3 whose policy to start from, as far as it fits."""
    reset: Names = []
    """Parts of that policy to leave fresh: value, policy, normalizer, or layers by name."""
    freeze: Names = []
    """Layers that stay as they are: policy, value, or by name, such as encoder or pi.0."""
    learning_rate_scale: Factors = {}
    """Layers whose steps are smaller or larger: encoder=0.1 vf=2."""
    teacher: str | None = None
    """Run or checkpoint whose actions to learn as well."""
    teacher_coef: Schedule = "lin_1.0"
    """Weight of the teacher: a number, or lin_X to fall linearly from X to 0."""
    eval_freq: Annotated[int, Field(ge=0)] = 0
    """Environment steps between evaluations during training; 0 for none."""
    n_eval_episodes: Annotated[int, Field(ge=0)] = 100
    """Episodes of each evaluation, the one at the end included; 0 leaves that one out."""
    eval_max_steps: Annotated[int, Field(ge=1, lt=2**31)] | None = None
    """Steps after which an evaluation cuts an episode short; none for its own limit, or 27,000 without one."""
    eval_max_seconds: Annotated[float, Field(gt=0)] | None = 600.0
    """Seconds after which an evaluation ends with the episodes it has; none for no limit."""
    save_freq: Annotated[int, Field(ge=0)] = 100_000
    """Environment steps between checkpoints; 0 for one at the end only."""
    keep_checkpoints: Annotated[int, Field(ge=1)] = 3
    """How many of the latest checkpoints to keep, beside the best."""
    video_freq: Annotated[int, Field(ge=0)] = 0
    """Environment steps between videos of an episode; 0 for none."""
    video_captions: bool = True
    """Write the step and the return into videos."""
    log_interval: Annotated[int, Field(ge=1)] | None = None
    """Policy updates between two log points. With none it is every update for an agent that makes few, and about every
    thousand environment steps for one that makes many."""
    log_info: Names = []
    """Names of numbers in the info of the environment, whose mean over the steps between two log points is logged."""
    histogram_freq: Annotated[int, Field(ge=0)] | None = None
    """Environment steps between histograms of actions, advantages, parameters and gradients, for trackers that show
    them; none for 20 in a run, 0 for none at all."""
    stats_window_size: Annotated[int, Field(ge=1)] = 100
    """Finished episodes that rollout/* statistics are averaged over."""
    health: HealthConfig = HealthConfig()
    log_format: Literal["auto", "text", "json"] = "auto"
    """How progress is written: auto draws on a terminal and writes lines elsewhere, text always writes lines, and json
    an object a line, for programs. All of it goes to standard error."""
    trackers: Names = ["console", "csv", "tensorboard"]
    """Where metrics go, by the names that 'rltrain trackers' lists; none for nowhere."""

    @field_validator("data", "reward_model")
    @classmethod
    def _from_anywhere(cls, value: str | None) -> str | None:
        return None if value is None else str(Path(value).absolute())

    @field_validator("trackers", "log_info")
    @classmethod
    def _each_once(cls, value: list[str]) -> list[str]:
        if twice := next((name for name in value if value.count(name) > 1), None):
            raise ValueError(f"'{twice}' is there twice")
        return value


Activation = Literal["tanh", "relu", "silu", "elu", "gelu", "leaky_relu"]

OWN = "own:"
"""Prefix of the name of a user's class in ``config.yaml``."""


def _read_class(value: object) -> object:
    if isinstance(value, type) or (isinstance(value, str) and value.startswith(OWN)):
        return value
    raise ValueError("should be a class of your own, passed in from Python")


def _write_class(value: Any) -> str:
    return value if isinstance(value, str) else f"{OWN}{value.__name__}"


CustomClass = Annotated[Any, BeforeValidator(_read_class), PlainSerializer(_write_class, return_type=str)]
"""A pydantic field type: a class, or ``own:`` and the name of a class that was not passed in."""


def with_classes(data: Any, classes: Iterable[type]) -> Any:
    """Saved settings with classes in place of their names.

    Raises:
        ConfigError: One of them is no class.
    """
    classes = list(classes) if isinstance(classes, Iterable) else [classes]
    if wrong := [each for each in classes if not isinstance(each, type)]:
        raise ConfigError(f"{wrong[0]!r} among the classes is none.", "Give a list of classes: classes=[MyNetwork].")
    by_name = {f"{OWN}{each.__name__}": each for each in classes}
    if isinstance(data, dict):
        return {key: with_classes(value, by_name.values()) for key, value in data.items()}
    return by_name.get(data, data) if isinstance(data, str) else data


def class_of(value: type | str) -> type:
    """The class itself.

    Raises:
        ConfigError: Only its name is known.
    """
    if isinstance(value, str):
        name = value.removeprefix(OWN)
        raise ConfigError(
            f"The policy is made with the class '{name}', which the run folder names but does not contain.",
            f"Pass it in from Python: rltrain.load(run, classes=[{name}]), and the same for rltrain.resume.",
        )
    return value
