"""SAC's hyperparameters: Stable-Baselines3's names, defaults and meanings; additions to it are off by default."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, ValidationInfo, field_validator

from rltrain.agents.parts.settings import NetworkKwargs, OffPolicyConfig, Widths
from rltrain.config import Model

AUTO: Literal["auto"] = "auto"


class NetArch(Model):
    """Widths of the hidden layers of the two kinds of networks."""

    pi: Widths
    """Hidden layers of the policy."""
    qf: Widths
    """Hidden layers of each critic."""


class PolicyKwargs(NetworkKwargs):
    """The networks."""

    net_arch: NetArch = NetArch(pi=[256, 256], qf=[256, 256])
    """Hidden layer widths: [256, 256] for policy and critics, or {pi: [256, 256], qf: [256, 256]}."""
    n_critics: Annotated[int, Field(ge=1)] = 2
    """Critics, of whose estimates the lowest counts."""
    log_std_init: float = -3.0
    """With use_sde: initial logarithm of the noise's standard deviation."""
    use_expln: bool = False
    """With use_sde: let deviations above 1 grow with the logarithm of their parameter instead of exponentially."""
    clip_mean: Annotated[float, Field(ge=0.0)] = 2.0
    """With use_sde: largest magnitude of the mean before tanh; 0 for no limit."""
    layer_norm: bool = False
    """Normalise every layer of policy and critics before its activation."""
    weight_norm: bool = False
    """Scale every hidden layer back to a fixed norm of its weights after each step; needs layer_norm."""

    @field_validator("net_arch", mode="before")
    @classmethod
    def _one_list_for_both(cls, value: Any) -> Any:
        return {"pi": value, "qf": value} if isinstance(value, list | tuple) else value

    @field_validator("weight_norm")
    @classmethod
    def _only_where_it_changes_no_output(cls, value: bool, info: ValidationInfo) -> bool:
        if value and not info.data.get("layer_norm"):
            raise ValueError("it changes what a layer says unless layer_norm is on")
        return value


class SACConfig(OffPolicyConfig):
    """Hyperparameters of SAC."""

    ent_coef: float | str = AUTO
    """Weight of the entropy: a number, auto to learn it from 1 on, or auto_X to learn it from X on."""
    target_entropy: float | Literal["auto"] = AUTO
    """Entropy that a learned weight aims at; auto for minus the number of action dimensions."""
    target_update_interval: Annotated[int, Field(ge=1)] = 1
    """Gradient steps between two updates of the target critics."""
    use_sde: bool = False
    """Explore by noise that is a function of the state and stays the same for several steps (gSDE)."""
    sde_sample_freq: Annotated[int, Field(ge=-1)] = -1
    """With use_sde: steps until new noise is drawn; -1 for once between two updates."""
    use_sde_at_warmup: bool = False
    """With use_sde: act by the policy and its noise before learning starts, instead of at random."""
    normalize_obs: bool = False
    """Scale observations by their running mean and deviation."""
    normalize_reward: bool = False
    """Scale rewards by the running deviation of the discounted return."""
    value_warmup: Annotated[int, Field(ge=0)] = 0
    """Gradient steps at the start that change the critics alone, so that a policy from --init-from is not spoiled by
    fresh ones; 0 for none."""
    policy_delay: Annotated[int, Field(ge=1)] = 1
    """Gradient steps of the critics for each one of the policy and the weight of the entropy."""
    distributional: bool = False
    """Learn quantiles of the return instead of its mean."""
    n_quantiles: Annotated[int, Field(ge=2)] = 25
    """How many quantiles, where distributional."""
    policy_kwargs: PolicyKwargs = PolicyKwargs()

    @field_validator("ent_coef")
    @classmethod
    def _weight(cls, value: float | str) -> float | str:
        """A number as a float; text only if it says that the weight is learned."""
        learned = str(value).startswith(AUTO)
        try:
            number = initial_ent_coef(value)
        except ValueError:
            raise ValueError("it is a number, auto, or auto_ and a number") from None
        if not 0 <= number < float("inf") or (learned and number == 0):
            raise ValueError("it cannot be below 0, nor infinite, and a learned one cannot start at 0")
        return value if learned else number

    @field_validator("sde_sample_freq")
    @classmethod
    def _never_or_often(cls, value: int) -> int:
        if value == 0:
            raise ValueError("it must be at least 1, or -1")
        return value

    @field_validator("policy_delay")
    @classmethod
    def _policy_in_every_update(cls, value: int, info: ValidationInfo) -> int:
        steps = info.data.get("gradient_steps", -1)
        if steps > 0 and steps % value:
            raise ValueError(f"gradient_steps={steps} is no multiple of it")
        return value


def initial_ent_coef(ent_coef: float | str) -> float:
    """The weight of the entropy at the start: the number, or X for ``auto_X``, or 1 for ``auto``.

    Raises:
        ValueError: It is something else.
    """
    text = str(ent_coef)
    return 1.0 if text == AUTO else float(text.removeprefix(f"{AUTO}_"))
