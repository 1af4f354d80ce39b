"""Settings of networks that agents have in common."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, field_validator

from rltrain.config import Activation, CustomClass, Model

Widths = list[Annotated[int, Field(ge=1)]]
Share = Annotated[float, Field(ge=0.0, le=1.0)]


class NetworkKwargs(Model):
    """What every network of an agent is told."""

    features_extractor_class: Literal["auto", "flatten"] | CustomClass = "auto"
    """What images go through: auto for convolutions, flatten for none; from Python also an encoder of your own."""
    features_extractor_kwargs: dict[str, Any] = Field(default_factory=dict)
    """Arguments of an encoder of your own."""
    activation_fn: Activation = "relu"
    """Activation between the hidden layers."""

    @field_validator("features_extractor_class", mode="before")
    @classmethod
    def _as_in_sb3(cls, value: Any) -> Any:
        return "flatten" if value == "FlattenExtractor" else value

    @field_validator("activation_fn", mode="before")
    @classmethod
    def _as_in_torch(cls, value: Any) -> Any:
        """Accepts ``nn.ReLU``, as RL Zoo writes it."""
        torch_names = {"tanh": "tanh", "relu": "relu", "silu": "silu", "elu": "elu", "gelu": "gelu"}
        return {**torch_names, "leakyrelu": "leaky_relu"}.get(str(value).removeprefix("nn.").lower(), value)


class QNetworkKwargs(NetworkKwargs):
    """The network of action values."""

    net_arch: Widths = Field(default=[64, 64])
    """Hidden layer widths."""
    layer_norm: bool = False
    """Normalise every layer before its activation."""
