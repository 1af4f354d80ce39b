"""What can be wrong with a run, as the metrics of a log point show it."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from rltrain.config import HealthConfig

FASTEST, SLOWEST = 0.3, 0.05
"""Shares of a new value in running means: of one that follows within a few log points, and of one to compare with."""
RISE = 0.1
"""Share of the gap between training and evaluations by which one of them rises that still gets better."""


@dataclass(frozen=True)
class Facts:
    """What a run is, as far as it matters here.

    Attributes:
        max_entropy: Entropy of the uniform policy, in nats, for discrete actions.
        gamma: Discount factor.
        threshold: Mean return at which the task counts as solved.
        learns_temperature: Whether the weight of the entropy is learned.
        window: Episodes that the mean return is taken over.
    """

    max_entropy: float | None = None
    gamma: float | None = None
    threshold: float | None = None
    learns_temperature: bool = False
    window: int = 100


@dataclass
class Reading:
    """A log point.

    Attributes:
        now: The metrics.
        progress: Share of the run that is over.
        facts: What the run is.
        limits: The thresholds.
        memory: Numbers that rules remember from one log point to the next, by name.
        fps: Steps per second since the last log point; None if that is too short to tell.
    """

    now: Mapping[str, float]
    progress: float
    facts: Facts
    limits: HealthConfig
    memory: dict[str, float] = field(default_factory=dict)
    fps: float | None = None

    def get(self, tag: str) -> float | None:
        """A metric; None if it is not there or not finite."""
        value = self.now.get(tag, math.nan)
        return value if math.isfinite(value) else None

    def extreme(self, name: str, value: float, of: Callable[[float, float], float]) -> float:
        """The largest or smallest value of this name so far."""
        self.memory[name] = of(self.memory.get(name, value), value)
        return self.memory[name]

    def mean(self, name: str, value: float, share: float) -> float:
        """The running mean of the values of this name, this one included."""
        before = self.memory.get(name, value)
        self.memory[name] = before + share * (value - before)
        return self.memory[name]

    @property
    def poor(self) -> bool:
        """Whether the return is hardly better than at the start of the run; false if nothing is known of it."""
        now, first = self.get("rollout/ep_rew_mean"), self.memory.get("return/first")
        if now is None or first is None:
            return False
        if self.facts.threshold is not None:
            return now - first < 0.25 * (self.facts.threshold - first)
        return now - first <= self.limits.improvement * abs(first)


def entropy_collapse(at: Reading) -> str | None:
    """The policy has become deterministic although it is no good."""
    if not at.poor or at.progress > 0.75:
        return None
    most, loss, limit = at.facts.max_entropy, at.get("train/entropy_loss"), at.limits.entropy_share
    if most and loss is not None and -loss < limit * most:
        return f"The entropy of the policy is {-loss:.3g}, {-loss / most:.1%} of what a random one has."
    deviation = at.get("train/std")
    if most is None and deviation is not None:
        first = at.memory.setdefault("std/first", deviation)
        if deviation < min(limit * first, limit):
            return f"The deviation of the actions is {deviation:.2g}; it was {first:.2g}."
    return None


def kl_blow_up(at: Reading) -> str | None:
    """Updates move the policy too far."""
    kl = at.get("train/approx_kl")
    if kl is not None and kl > at.limits.kl:
        return f"An update moves the policy by a KL divergence of {kl:.2g}."
    return None


def explained_variance(at: Reading) -> str | None:
    """The value function is no better than a constant, and the policy does not get better.

    Where it does, returns may hardly vary any more, as in a task that is solved, or noise decides most of them.
    """
    explained = at.get("train/explained_variance")
    if at.poor and explained is not None and explained <= at.limits.explained_variance:
        return f"The value function explains {explained:.0%} of the variance of returns: a constant would do better."
    return None


def gradient_explosion(at: Reading) -> str | None:
    """The gradient has grown by orders of magnitude."""
    found = None
    for tag in [tag for tag in at.now if tag.endswith("grad_norm")]:
        norm = at.get(tag)
        if norm is None or norm <= 0.0:
            continue
        seen, usual = at.memory.get(f"{tag}/seen", 0.0), at.memory.get(tag, math.log(norm))
        at.memory[f"{tag}/seen"] = seen + 1.0
        at.mean(tag, math.log(norm), 1.0 / (seen + 1.0) if seen < 10 else SLOWEST)
        if seen >= 10 and norm > at.limits.gradient_growth * math.exp(usual):
            found = f"The norm of the gradient ({tag}) is {norm:.2g}, and was about {math.exp(usual):.2g}."
    return found


def dead_gradient(at: Reading) -> str | None:
    """The gradient has vanished."""
    for tag in [tag for tag in at.now if tag.endswith("grad_norm")]:
        norm = at.get(tag)
        if norm is not None and norm < at.limits.dead_gradient:
            return f"The norm of the gradient ({tag}) is {norm:.2g}: nothing is learned."
    return None


def overestimation(at: Reading) -> str | None:
    """Action values are above the largest possible return."""
    value, gamma = at.get("train/q_target"), at.facts.gamma
    if value is None:
        value = at.get("train/q_value")
    if value is None or gamma is None or not gamma < 1.0 or (reward := at.get("rollout/reward_max")) is None:
        return None
    reward = at.extreme("reward/max", reward, max)
    bonus = (at.get("train/ent_coef") or 0.0) * abs(at.get("train/entropy") or 0.0)
    bound = (reward + bonus) / (1.0 - gamma)
    if bound > 0.0 and abs(value) > at.limits.q_excess * bound:
        return f"Action values are {value:,.4g} on average, and no return can be larger than {bound:,.4g}."
    return None


def value_saturation(at: Reading) -> str | None:
    """The value function says the same of every state."""
    spread = at.get("train/value_spread")
    if spread is None or at.get("train/critic_loss") is not None:
        return None
    if (value := at.get("train/q_target")) is not None:
        if spread < at.limits.dead_spread * (1.0 + abs(value)):
            return f"The values of states differ by {spread:.2g} on average: all look alike to the network."
    elif spread < at.limits.value_spread:
        return f"The values of states differ {spread:.2%} as much as the returns that they are to predict."
    return None


def dead_critics(at: Reading) -> str | None:
    """A critic says the same of every state and action."""
    spread, value = at.get("train/value_spread"), at.get("train/q_value")
    if spread is None or value is None or spread >= at.limits.dead_spread * (1.0 + abs(value)):
        return None
    return f"The values of a critic differ by {spread:.2g} on average: it has no opinion on actions."


def return_stuck(at: Reading) -> str | None:
    """Half of the run is over, and the return is what it was."""
    now, first = at.get("rollout/ep_rew_mean"), at.memory.get("return/first")
    episodes = at.get("rollout/episodes") or 0.0
    if now is None or first is None or at.progress < 0.5 or episodes < 3 * at.facts.window:
        return None
    threshold = at.facts.threshold
    if threshold is not None and now >= threshold:
        return None
    best = at.memory.get("return/best", now)
    if best - first > at.limits.improvement * max(abs(first), 1e-9):
        return None
    return f"The mean return is {now:.4g}, and was {first:.4g} when the run began."


def evaluation_below(at: Reading) -> str | None:
    """The policy does much worse when it is evaluated than in training, and neither gets better.

    While a policy still learns, its likeliest actions lag behind what it does by chance.
    """
    score, now = at.get("eval/mean_reward"), at.get("rollout/ep_rew_mean")
    if score is None or now is None:
        return None
    rise = max(score - at.memory.get("eval/best", score), now - at.memory.get("eval/return", now))
    at.extreme("eval/best", score, max)
    at.memory["eval/return"] = now
    spread = at.memory.get("return/best", now) - at.memory.get("return/worst", now)
    gap = now - score
    if spread > 0.0 and gap > at.limits.evaluation_gap * spread and rise < RISE * gap:
        return f"Evaluations return {score:.4g}, and training episodes {now:.4g}."
    return None


def throughput_fall(at: Reading) -> str | None:
    """Steps per second have fallen."""
    if at.fps is None:
        return None
    fast = at.mean("fps/fast", at.fps, FASTEST)
    best = at.extreme("fps/best", at.mean("fps/slow", at.fps, SLOWEST), max)
    if fast < at.limits.throughput_share * best:
        return f"The run makes {fast:,.0f} steps a second, and made {best:,.0f}."
    return None


def dead_normaliser(at: Reading) -> str | None:
    """Most statistics of the normaliser have never changed."""
    share = at.get("train/dead_statistics")
    if share is not None and share >= at.limits.dead_statistics:
        return f"{share:.0%} of the numbers that are normalised have never changed."
    return None


def temperature(at: Reading) -> str | None:
    """The learned weight of the entropy has run away."""
    weight = at.get("train/ent_coef")
    if weight is None or not at.facts.learns_temperature:
        return None
    if weight > at.limits.temperature_high:
        return f"The weight of the entropy is {weight:.3g}: the policy follows its entropy, not the reward."
    if weight < at.limits.temperature_low:
        return f"The weight of the entropy is {weight:.2g}: exploration is over."
    return None
