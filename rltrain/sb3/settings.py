"""Hyperparameters of Stable-Baselines3's algorithms, read from their constructors: ``settings.PPO`` is a config class.

Names, defaults and help texts are those of the installed version. Arguments that need code (buffer classes,
callbacks) are left out; RL Zoo's additions (``normalize_*``, ``noise_*``) are included.
"""

from __future__ import annotations

import inspect
import re
import typing
from functools import cache
from importlib import import_module
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, Field, create_model

from rltrain.config import Activation, AgentConfig, Model
from rltrain.sb3.algorithms import ALGORITHMS, need
from rltrain.schedules import Schedule

OURS = {  # elsewhere in the configuration, or not expressible in a file
    *("self", "policy", "env", "policy_kwargs", "tensorboard_log", "verbose", "seed", "device", "_init_setup_model"),
    *("stats_window_size", "rollout_buffer_class", "rollout_buffer_kwargs", "replay_buffer_class", "action_noise"),
}
OURS_IN_POLICY = {"self", "observation_space", "action_space", "lr_schedule", "use_sde", "features_extractor_class"}
AT_LEAST_ONE = {"n_steps", "batch_size", "n_epochs", "buffer_size", "policy_delay", "target_update_interval"}
SHARES = {"gamma", "gae_lambda", "tau", "exploration_fraction", "exploration_initial_eps", "exploration_final_eps"}
NOISES = Literal["normal", "ornstein-uhlenbeck"]
Optimizer = Literal["Adam", "AdamW", "RMSprop", "SGD", "RMSpropTFLike"]


def _last_name(value: Any) -> Any:
    """``nn.ReLU`` as ``ReLU``, the two spellings of a class in RL Zoo."""
    return value.rpartition(".")[2] if isinstance(value, str) else value


def _activation(value: Any) -> Any:
    name = str(_last_name(value)).lower()
    return "leaky_relu" if name == "leakyrelu" else name


@cache
def algorithm(name: str) -> Any:
    """The class of Stable-Baselines3 or sb3-contrib.

    Raises:
        ConfigError: The package is not installed.
    """
    package = ALGORITHMS[name][0]
    need(package)
    return getattr(import_module(package), name)


@cache
def config_class(name: str) -> type[AgentConfig]:
    """The config class of an algorithm."""
    cls = algorithm(name)
    signature = inspect.signature(cls.__init__).parameters
    texts = _texts(cls)
    fields = {
        parameter.name: _field(parameter, texts.get(parameter.name, ""))
        for parameter in signature.values()
        if parameter.name not in OURS
    }
    if "action_noise" in signature:
        fields["noise_type"] = (NOISES | None, _described(None, "Noise on the actions that explore; none for none."))
        fields["noise_std"] = (Annotated[float, Field(ge=0)], _described(0.1, "Standard deviation of that noise."))
    fields["normalize_obs"] = (bool, _described(False, "Scale observations by VecNormalize."))
    fields["normalize_reward"] = (bool, _described(False, "Scale rewards by VecNormalize."))
    policy = _policy_kwargs(name, cls.policy_aliases["MlpPolicy"])
    fields["policy_kwargs"] = (policy, policy())
    made = create_model(f"{name}Config", __base__=AgentConfig, **fields)  # type: ignore[call-overload]
    made.__doc__ = f"Hyperparameters of Stable-Baselines3's {name}."
    return made


def _policy_kwargs(name: str, policy: Any) -> type[BaseModel]:
    """The config class of a policy's constructor."""
    signature = inspect.signature(policy.__init__).parameters
    texts = _texts(policy)
    fields: dict[str, Any] = {}
    for parameter in signature.values():
        text = texts.get(parameter.name, "")
        if parameter.name == "activation_fn":
            fields[parameter.name] = (
                Annotated[Activation, BeforeValidator(_activation)],
                _described(_activation(parameter.default.__name__), text),
            )
        elif parameter.name == "optimizer_class":
            fields[parameter.name] = (
                Annotated[Optimizer | None, BeforeValidator(_last_name)],
                _described(None, f"{', '.join(typing.get_args(Optimizer))}, or none for the algorithm's own."),
            )
        elif parameter.name not in OURS_IN_POLICY:
            fields[parameter.name] = _field(parameter, text)
    return create_model(f"{name}PolicyKwargs", __base__=Model, **fields)


def _field(parameter: inspect.Parameter, text: str) -> tuple[Any, Any]:
    """A pydantic field for a parameter of a constructor."""
    kind: Any = parameter.annotation
    if "Callable" in str(kind):
        kind = Schedule | None if type(None) in typing.get_args(kind) else Schedule
    elif parameter.name in AT_LEAST_ONE:
        kind = Annotated[kind, Field(ge=1)]
    elif parameter.name in SHARES:
        kind = Annotated[kind, Field(ge=0, le=1)]
    return kind, _described(parameter.default, text)


def _described(default: Any, text: str) -> Any:
    return Field(default, description=text)


def _texts(cls: type) -> dict[str, str]:
    """The constructor's parameters with their descriptions from the docstring."""
    found = re.findall(r":param (\w+):(.*?)(?=\n\s*:|\n\s*\.\. |\Z)", inspect.getdoc(cls) or "", re.DOTALL)
    texts = {name: " ".join(text.split()) for name, text in found}
    return {name: text[:1].upper() + text[1:] for name, text in texts.items()}


def __getattr__(name: str) -> Any:
    if name not in ALGORITHMS:
        raise AttributeError(f"module '{__name__}' has no attribute '{name}'")
    return config_class(name)
