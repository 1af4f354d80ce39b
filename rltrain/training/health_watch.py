"""Looks at the metrics of every log point for what can be wrong with a run, and says it once."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from gymnasium import spaces

from rltrain.config import HealthConfig, TrainConfig
from rltrain.registry import spec_of
from rltrain.training.health_rules import RULES, Rule
from rltrain.training.health_signs import Facts, Reading

SPEED = "fps/"
"""What the names of numbers begin with that are of this session alone."""


@dataclass(frozen=True)
class Finding:
    """A diagnosis that has just been made, or is over.

    Attributes:
        rule: The rule.
        step: Environment steps so far.
        what: What is wrong, as a sentence; empty if it is over.
    """

    rule: Rule
    step: int
    what: str = ""

    def __str__(self) -> str:
        name = self.rule.name.replace("_", " ")
        return f"Health at step {self.step:,}: {name}. {self.what} Try {self.rule.advice}"

    def markdown(self) -> str:
        """The finding as TensorBoard shows it, with the source of its threshold."""
        name = self.rule.name.replace("_", " ")
        return (
            f"**{name}**, step {self.step:,}\n\n{self.what}\n\nTry {self.rule.advice}\n\nThreshold: {self.rule.source}."
        )


class HealthWatch:
    """Judges a run by its metrics; see :data:`~rltrain.training.health_rules.RULES`. It asks nothing of the device.

    Args:
        limits: The thresholds.
        facts: What the run is.
        total: Environment steps of the run.
    """

    def __init__(self, limits: HealthConfig, facts: Facts, total: int) -> None:
        self.limits, self.facts, self.total = limits, facts, total
        self.memory: dict[str, float] = {}
        self.streaks: dict[str, list[int]] = {}  # by rule: log points in a row, and the step of the first one
        self.stands: dict[str, bool] = {}  # by rule that has spoken: whether it still holds
        self._before: tuple[int, float] | None = None  # step and seconds of the last log point

    def look(self, metrics: Mapping[str, float], step: int, seconds: float) -> list[Finding]:
        """What is new at a log point, or after an evaluation.

        Args:
            metrics: Those of this log point alone.
            step: Environment steps so far.
            seconds: Of training in this session.
        """
        if not self.limits.enabled:
            return []
        self._note(metrics)
        now = {**self._known(), **metrics}
        at = Reading(now, step / self.total, self.facts, self.limits, self.memory, self._fps(metrics, step, seconds))
        found = [self._judge(rule, at, step) for rule in RULES if _is_about(rule, metrics)]
        return [finding for finding in found if finding is not None]

    def _note(self, metrics: Mapping[str, float]) -> None:
        """Remembers how the return has been."""
        value = metrics.get("rollout/ep_rew_mean", math.nan)
        if math.isfinite(value) and metrics.get("rollout/episodes", 0.0) >= min(self.facts.window, 10):
            self.memory.setdefault("return/first", value)
            self.memory["return/now"] = value
            for name, of in (("return/best", max), ("return/worst", min)):
                self.memory[name] = of(self.memory.get(name, value), value)

    def _known(self) -> dict[str, float]:
        """What an evaluation is compared with."""
        return {"rollout/ep_rew_mean": self.memory["return/now"]} if "return/now" in self.memory else {}

    def _fps(self, metrics: Mapping[str, float], step: int, seconds: float) -> float | None:
        """Steps per second since the last log point, once it learns; None if that says nothing yet."""
        if "train/n_updates" not in metrics:
            return None
        (then, before), self._before = self._before or (step, seconds), (step, seconds)
        settled = seconds >= self.limits.throughput_after and seconds > before and step > then
        return (step - then) / (seconds - before) if settled else None

    def _judge(self, rule: Rule, at: Reading, step: int) -> Finding | None:
        what = rule.sees(at)
        if what is None:
            self.streaks.pop(rule.name, None)
            if self.stands.get(rule.name):
                self.stands[rule.name] = False
                return Finding(rule, step)
            return None
        streak = self.streaks.setdefault(rule.name, [0, step])
        streak[0] += 1
        if rule.name in self.stands or streak[0] < rule.points or step - streak[1] < rule.share * self.total:
            return None
        self.stands[rule.name] = True
        return Finding(rule, step, what)

    def state_dict(self) -> dict[str, Any]:
        """Everything with memory, except for the speed."""
        memory = {name: value for name, value in self.memory.items() if not name.startswith(SPEED)}
        mine = [rule.name for rule in RULES if rule.name != "throughput_fall"]
        streaks = {name: list(streak) for name, streak in self.streaks.items() if name in mine}
        stands = {name: it for name, it in self.stands.items() if name in mine}
        return {"memory": memory, "streaks": streaks, "stands": stands}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Puts back what :meth:`state_dict` gave; nothing for a checkpoint that has none.

        Raises:
            ValueError: It is something else.
        """
        if state:
            self.memory = {name: float(value) for name, value in state["memory"].items()}
            self.stands = {name: bool(value) for name, value in state["stands"].items()}
            streaks = {name: (int(points), int(first)) for name, (points, first) in state["streaks"].items()}
            self.streaks = {name: [*each] for name, each in streaks.items()}


def _is_about(rule: Rule, metrics: Mapping[str, float]) -> bool:
    """Whether a rule looks at these metrics: evaluations come apart from all others."""
    return (rule.name == "evaluation_below_training") == ("eval/mean_reward" in metrics)


def watch_for(config: TrainConfig, env: str | type, action_space: spaces.Space, total: int) -> HealthWatch:
    """The watch on a run."""
    agent = config.agent
    facts = Facts(
        max_entropy=max_entropy(action_space),
        gamma=getattr(agent, "gamma", None),
        threshold=spec_of(env).reward_threshold,
        learns_temperature=isinstance(getattr(agent, "ent_coef", None), str),
        window=config.stats_window_size,
    )
    return HealthWatch(config.health, facts, max(config.total_timesteps, total))


def max_entropy(space: spaces.Space) -> float | None:
    """Entropy of random actions, in nats; None if they are not discrete, or there is but one."""
    if isinstance(space, spaces.Discrete):
        return math.log(int(space.n)) or None
    if isinstance(space, spaces.MultiDiscrete):
        return sum(math.log(int(n)) for n in space.nvec.flatten()) or None
    if isinstance(space, spaces.MultiBinary):
        return math.prod(space.shape or (1,)) * math.log(2)
    return None
