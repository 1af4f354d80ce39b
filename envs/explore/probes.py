"""Probes: environments so small that the right values are known. Each of them exposes one kind of bug in an agent.

Train on them in this order, for a few seconds each. The first one at which an agent fails tells where to look:

    ConstantReward     is the value right where the time limit cuts an episode off?
    ObservationReward  does the value depend on the observation?
    Bandit             does the policy follow the reward?
    ActionReward       does the policy depend on the observation?
    Target             does it do so where actions are real numbers?
    DelayedReward      does a reward reach the action that earned it, with the right discount?
    Autoreset          is the value taken from where the step led, not from the start of the next episode?

After Andy Jones, "Debugging RL, Without the Agonizing Pain", 2021.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch
from gymnasium import spaces
from torch import Tensor

from rltrain.canvas import BLUE, GREEN, GREY, INK, PAPER, RED, SILVER, YELLOW, Canvas
from rltrain.env import TensorEnv


@dataclass
class ProbeState:
    """A bit and a step counter."""

    bit: Tensor  # (N,) int64, 0 or 1
    steps: Tensor  # (N,) int64, steps since the start, as far as they are counted
    reward: Tensor  # (N,) of the last step, for the picture


class Probe(TensorEnv[ProbeState]):
    """Base class of the probes: they observe a bit, drawn at the start, and the number of steps.

    Args:
        **base: ``device`` and ``dtype``, see :class:`~rltrain.env.TensorEnv`.
    """

    render_fps = 4

    most_steps: ClassVar[int] = 1  # of an episode that ends

    def __init__(self, **base: Any) -> None:
        super().__init__(**base)
        high = np.array([1.0, self.most_steps], dtype=np.float32)
        self.observation_space = spaces.Box(np.zeros(2, dtype=np.float32), high, dtype=np.float32)
        self.action_space: spaces.Space = spaces.Discrete(2)

    def reset(self, n: int, rng: torch.Generator | None) -> ProbeState:
        """A bit at random."""
        bit = torch.randint(2, (n,), generator=rng, device=self.device)
        return ProbeState(bit, torch.zeros_like(bit), torch.zeros(n, device=self.device, dtype=self.dtype))

    def observe(self, state: ProbeState) -> Tensor:
        """Bit and steps: (N, 2)."""
        return torch.stack((state.bit, state.steps), dim=1).to(self.dtype)

    def outcome(
        self, state: ProbeState, reward: Tensor, ended: Tensor | bool, bit: Tensor | None = None
    ) -> tuple[ProbeState, Tensor, Tensor]:
        """The results of a step; the bit stays unless another is given."""
        reward = reward.to(self.dtype)
        steps = (state.steps + 1).clamp(max=self.most_steps)
        after = ProbeState(state.bit if bit is None else bit, steps, reward)
        return after, reward, ended if isinstance(ended, Tensor) else torch.full_like(reward, ended, dtype=torch.bool)

    def render(self, state: ProbeState, index: int = 0) -> Tensor:
        """The observation and the last reward, (240, 480, 3) uint8."""
        bit, steps = self.observe(ProbeState(*(x[index : index + 1] for x in vars(state).values())))[0].tolist()
        reward = float(state.reward[index])
        canvas = Canvas(480, 240, world=(0, 0, 480, 240))
        for left, right, title in ((24, 292, "observed"), (316, 456, "last reward")):
            canvas.rectangle(left, 24, right, 188, "white", radius=14)
            canvas.text(((left + right) / 2, 210), title, GREY, size=20)
        canvas.circle((98, 112), 46, INK if bit else SILVER)
        canvas.circle((98, 112), 42, YELLOW if bit else PAPER)
        canvas.text((98, 112), f"{bit:.0f}", INK, size=44)
        canvas.text((98, 44), "bit", GREY, size=18)
        canvas.text((218, 112), f"{steps:.0f}", BLUE, size=64)
        canvas.text((218, 44), "steps", GREY, size=18)
        color = GREEN if reward > 0 else RED if reward < 0 else GREY
        canvas.text((386, 112), f"{reward:.2f}".rstrip("0").rstrip("."), color, size=48)
        return canvas.picture()


class ConstantReward(Probe):
    """Value of an endless reward: 1 / (1 - gamma), whatever the action.

    Observation: (N, 2): always 0, so that there is one state alone.
    Action: 0 or 1, of no effect.
    Reward: 1 in every step.
    Episode end: none but the time limit, which says nothing about the state.
    Source: Jones, "Debugging RL, Without the Agonizing Pain", 2021; with a time limit in place of the single step.

    To learn: the value 1 / (1 - gamma). One that is too low means that a truncation is treated as a termination: the
    value of the last observation is missing from the target. Any other one: look at the value loss.
    """

    max_episode_steps = 4

    def reset(self, n: int, rng: torch.Generator | None) -> ProbeState:
        """Always the same."""
        zero = torch.zeros(n, dtype=torch.int64, device=self.device)
        return ProbeState(zero, zero, torch.zeros(n, device=self.device, dtype=self.dtype))

    def observe(self, state: ProbeState) -> Tensor:
        """Nothing: (N, 2)."""
        return torch.zeros(len(state.bit), 2, device=self.device, dtype=self.dtype)

    def step(self, state: ProbeState, action: Tensor, rng: torch.Generator | None) -> tuple[ProbeState, Tensor, Tensor]:
        """A reward of 1; nothing changes."""
        return self.outcome(state, torch.ones_like(state.reward), ended=False)


class ObservationReward(Probe):
    """Value of an observation: the bit in it, whatever the action.

    Observation: (N, 2): a random bit; the steps so far.
    Action: 0 or 1, of no effect.
    Reward: the bit.
    Episode end: after one step.
    Source: Jones, "Debugging RL, Without the Agonizing Pain", 2021.

    To learn: the value 0 where the bit is 0, and 1 where it is 1. Where both have the same, observations do not reach
    the value, or those of different environments are mixed up.
    """

    def step(self, state: ProbeState, action: Tensor, rng: torch.Generator | None) -> tuple[ProbeState, Tensor, Tensor]:
        """The bit is the reward."""
        return self.outcome(state, state.bit, ended=True)


class Bandit(Probe):
    """Two arms, one of which pays: pull that one.

    Observation: (N, 2): a random bit, which means nothing; the steps so far.
    Action: 1 pays, 0 does not.
    Reward: the action.
    Episode end: after one step.
    Source: Jones, "Debugging RL, Without the Agonizing Pain", 2021.
    Baseline: the best policy: always 1.

    To learn: action 1, and its value 1, at both bits. If the value is learned and the action is not, or becomes 0, look
    at the sign of the advantage and at whether actions and log-probabilities belong together.
    """

    reward_threshold = 0.95

    def step(self, state: ProbeState, action: Tensor, rng: torch.Generator | None) -> tuple[ProbeState, Tensor, Tensor]:
        """The action is the reward."""
        return self.outcome(state, action, ended=True)

    def baseline(self, state: ProbeState) -> Tensor:
        """The arm that pays."""
        return torch.ones_like(state.bit)


class ActionReward(Probe):
    """Say what you see: the action has to be the bit.

    Observation: (N, 2): a random bit; the steps so far.
    Action: 0 or 1.
    Reward: 1 if the action is the bit, -1 if it is not.
    Episode end: after one step.
    Source: Jones, "Debugging RL, Without the Agonizing Pain", 2021.
    Baseline: the best policy: the bit.

    To learn: the bit as the action, and the value 1 at both bits. An agent that passes Bandit and fails here does not
    look, or pairs observations with actions and rewards of other environments or other steps.
    """

    reward_threshold = 0.9

    def step(self, state: ProbeState, action: Tensor, rng: torch.Generator | None) -> tuple[ProbeState, Tensor, Tensor]:
        """Right or wrong."""
        return self.outcome(state, 2 * (action == state.bit).to(self.dtype) - 1, ended=True)

    def baseline(self, state: ProbeState) -> Tensor:
        """What is seen."""
        return state.bit


class Target(Probe):
    """ActionReward with a real number for an action: hit 0.5 at bit 1, and -0.5 at bit 0.

    Observation: (N, 2): a random bit; the steps so far.
    Action: (N, 1): a number, clipped to [-1, 1].
    Reward: 1 at the target, falling evenly to 0 at a distance of 0.5.
    Episode end: after one step.
    Source: a variant of the other probes for continuous actions.
    Baseline: the best policy: the target itself.

    To learn: the targets as the mean actions, and, as the standard deviation shrinks, the value 1. Where ActionReward
    is learned and this is not, look at the density: that of an action before clipping or squashing may be taken for
    that of the action after it, or the other way round. The edge nearer to a target is as far away as the reward
    reaches, so that to aim at the target is best whatever the standard deviation is, clipped or not.
    """

    reward_threshold = 0.9

    def __init__(self, **base: Any) -> None:
        super().__init__(**base)
        self.action_space = spaces.Box(-1.0, 1.0, (1,), dtype=np.float32)

    def step(self, state: ProbeState, action: Tensor, rng: torch.Generator | None) -> tuple[ProbeState, Tensor, Tensor]:
        """The nearer the better."""
        hit = action.squeeze(1).to(self.dtype).clamp(-1, 1)
        miss = (hit - state.bit + 0.5).abs()
        return self.outcome(state, (1 - 2 * miss).clamp(min=0), ended=True)

    def baseline(self, state: ProbeState) -> Tensor:
        """The target."""
        return (state.bit.to(self.dtype) - 0.5).unsqueeze(1)


class DelayedReward(Probe):
    """A reward that comes two steps after the action which earned it.

    Observation: (N, 2): the first action, 0 before it; the steps so far.
    Action: 0 or 1; of no effect after the first step.
    Reward: in the last step 1 if the first action was 1; otherwise 0.
    Episode end: after three steps.
    Source: Jones, "Debugging RL, Without the Agonizing Pain", 2021; two steps longer.
    Baseline: the best policy: always 1.

    To learn: action 1 at the start, and, with it, the values gamma^2, gamma and 1 along the episode. Values that are
    too high mean that a termination is treated as a truncation, and the value of a state that is none is added; other
    powers of gamma, or an action that is not learned, that returns or advantages are off by a step.
    """

    reward_threshold = 0.95

    most_steps = 3

    def reset(self, n: int, rng: torch.Generator | None) -> ProbeState:
        """Always the same."""
        zero = torch.zeros(n, dtype=torch.int64, device=self.device)
        return ProbeState(zero, zero, torch.zeros(n, device=self.device, dtype=self.dtype))

    def step(self, state: ProbeState, action: Tensor, rng: torch.Generator | None) -> tuple[ProbeState, Tensor, Tensor]:
        """The first action becomes the bit, and the bit the last reward."""
        bit = torch.where(state.steps == 0, action, state.bit)
        ended = state.steps >= self.most_steps - 1
        return self.outcome(state, ended * bit, ended, bit)

    def baseline(self, state: ProbeState) -> Tensor:
        """The action that pays."""
        return torch.ones_like(state.bit)


class Autoreset(Probe):
    """The time limit ends every episode after one step; what counts is where the step led, not the next episode.

    Observation: (N, 2): a bit, drawn at the start, and 1 after a step; always 0.
    Action: 0 or 1, of no effect.
    Reward: the bit before the step.
    Episode end: none but the time limit of one step.
    Source: the same idea, for vectorised environments that reset in the step that ends an episode.

    To learn: the value 1 / (1 - gamma) at bit 1, and gamma / (1 - gamma) at bit 0, from where a step leads to bit 1.
    An agent that takes the value of the next episode's first observation, a random bit, in place of that of the last
    one finds (1 - gamma / 2) / (1 - gamma) and gamma / 2 / (1 - gamma) instead; one that takes none finds 1 and 0.
    """

    max_episode_steps = 1

    def observe(self, state: ProbeState) -> Tensor:
        """The bit: (N, 2)."""
        return torch.stack((state.bit, torch.zeros_like(state.bit)), dim=1).to(self.dtype)

    def step(self, state: ProbeState, action: Tensor, rng: torch.Generator | None) -> tuple[ProbeState, Tensor, Tensor]:
        """To bit 1."""
        return self.outcome(state, state.bit, ended=False, bit=torch.ones_like(state.bit))
