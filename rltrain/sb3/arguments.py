"""Converts a configuration to the constructor arguments of Stable-Baselines3."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from gymnasium import spaces
from stable_baselines3.common.noise import NormalActionNoise, OrnsteinUhlenbeckActionNoise
from stable_baselines3.common.preprocessing import is_image_space
from stable_baselines3.common.sb2_compat.rmsprop_tf_like import RMSpropTFLike
from stable_baselines3.common.utils import LinearSchedule
from torch import nn

from rltrain.schedules import LINEAR

ACTIVATIONS = {
    "tanh": nn.Tanh,
    "relu": nn.ReLU,
    "silu": nn.SiLU,
    "elu": nn.ELU,
    "gelu": nn.GELU,
    "leaky_relu": nn.LeakyReLU,
}
NATURE_CNN = 36  # pixels that its convolutions need at least


def policy_name(space: spaces.Space) -> str:
    """Stable-Baselines3's name of the policy for observations of this space."""
    if isinstance(space, spaces.Dict):
        return "MultiInputPolicy"
    if is_image_space(space) and sorted(space.shape)[1] >= NATURE_CNN:  # type: ignore[arg-type]
        return "CnnPolicy"
    return "MlpPolicy"


def constructor_arguments(values: dict[str, Any], action_space: spaces.Space) -> dict[str, Any]:
    """The hyperparameters as the constructor takes them: schedules as functions, classes in place of names."""
    arguments = {name: _schedule(value) for name, value in values.items()}
    if "noise_type" in arguments:
        arguments["action_noise"] = _noise(arguments.pop("noise_type"), arguments.pop("noise_std"), action_space)
    policy = {name: value for name, value in dict(arguments["policy_kwargs"]).items() if value is not None}
    policy["activation_fn"] = ACTIVATIONS[policy["activation_fn"]]
    if optimizer := policy.get("optimizer_class"):
        policy["optimizer_class"] = RMSpropTFLike if optimizer == "RMSpropTFLike" else getattr(torch.optim, optimizer)
    return {**arguments, "policy_kwargs": policy}


def _schedule(value: Any) -> Any:
    if isinstance(value, str) and value.startswith(LINEAR):
        return LinearSchedule(float(value.removeprefix(LINEAR)), 0.0, 1.0)
    return value


def _noise(kind: str | None, std: float, space: spaces.Space) -> Any:
    if kind is None:
        return None
    noise = NormalActionNoise if kind == "normal" else OrnsteinUhlenbeckActionNoise
    size = int(np.prod(space.shape or ()))
    return noise(np.zeros(size), np.full(size, std))
