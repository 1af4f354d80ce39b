"""Bandit: find the best of several arms while pulling them; new arms in every episode."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from gymnasium import spaces
from torch import Tensor

from rltrain.canvas import BLUE, GREEN, GREY, INK, ORANGE, SILVER, SKY, Canvas
from rltrain.env import TensorEnv


@dataclass
class BanditState:
    """The arms, and the rewards so far."""

    means: Tensor  # (N, K) mean reward of each arm, not observed
    counts: Tensor  # (N, K) how often each arm was pulled
    sums: Tensor  # (N, K) the rewards of each arm, added up
    arm: Tensor  # (N,) int64, the arm last pulled; -1 before the first pull
    reward: Tensor  # (N,) the reward of that pull


class Bandit(TensorEnv[BanditState]):
    """A bandit to be learned within each episode: the task of RL^2.

    Observation: (N, K + 1): the arm last pulled, one-hot, and what it paid; all 0 at the start.
    Action: the arm to pull, 0 to K - 1.
    Reward: what the arm pays. Bernoulli arms: 1 or 0, the mean of each uniform in [0, 1]. Gaussian arms: normal, the
        mean of each standard normal, the standard deviation ``noise``.
    Episode end: after ``num_pulls`` pulls.
    Source: Duan et al., "RL^2: Fast Reinforcement Learning via Slow Reinforcement Learning", 2016, arXiv:1611.02779,
        section 3.1; Gaussian arms: Sutton and Barto, "Reinforcement Learning", 2nd edition, section 2.3.
    Baseline: an upper bound on each arm's mean, given all pulls of the episode and how arms are drawn, that comes down
        to the mean by the last pull; after Bayes-UCB, Kaufmann, Cappe and Garivier, "On Bayesian Upper Confidence
        Bounds for Bandit Problems", 2012.

    With ten Bernoulli arms, always pulling the best one would earn 90.9 in 100 pulls, on average, random pulls earn 50.
    The best that is possible without memory, staying with an arm as long as it pays and trying the next one when it
    does not, earns 73. The info ``regret`` is the expected reward of always pulling the best arm minus that of the
    actual pulls.

    Args:
        num_arms: K.
        num_pulls: Pulls in an episode.
        arms: ``bernoulli`` or ``gaussian``.
        noise: Standard deviation of a Gaussian arm's rewards.
        **base: ``device`` and ``dtype``, see :class:`~rltrain.env.TensorEnv`.

    Raises:
        ConfigError: An argument is out of range: ``num_arms`` below 2, ``num_pulls`` below 1, ``arms`` unknown, or
            ``noise`` not above 0.
    """

    render_fps = 10

    def __init__(
        self,
        *,
        num_arms: int = 10,
        num_pulls: int = 100,
        arms: str = "bernoulli",
        noise: float = 1.0,
        **base: Any,
    ) -> None:
        super().__init__(**base)
        self.num_arms = self.whole("num_arms", num_arms, at_least=2)
        self.num_pulls = self.whole("num_pulls", num_pulls, at_least=1)
        self.gaussian = self.choice("arms", arms, ("bernoulli", "gaussian")) == "gaussian"
        self.noise = self.constant("noise", noise, above=0)
        self.numbers = torch.arange(num_arms, device=self.device)
        low, high = np.zeros(num_arms + 1, dtype=np.float32), np.ones(num_arms + 1, dtype=np.float32)
        if self.gaussian:
            low[-1], high[-1] = -np.inf, np.inf
        self.observation_space = spaces.Box(low, high, dtype=np.float32)
        self.action_space = spaces.Discrete(num_arms)

    def reset(self, n: int, rng: torch.Generator | None) -> BanditState:
        """New arms."""
        draw = torch.randn if self.gaussian else torch.rand
        means = draw(n, self.num_arms, generator=rng, device=self.device, dtype=self.dtype)
        counts = torch.zeros_like(means)
        arm = torch.full((n,), -1, dtype=torch.int64, device=self.device)
        return BanditState(means, counts, counts, arm, torch.zeros(n, device=self.device, dtype=self.dtype))

    def step(
        self, state: BanditState, action: Tensor, rng: torch.Generator | None
    ) -> tuple[BanditState, Tensor, Tensor]:
        """One pull."""
        arm = action.unsqueeze(1)
        mean = state.means.gather(1, arm).squeeze(1)
        draw = torch.randn if self.gaussian else torch.rand
        chance = draw(mean.shape, generator=rng, device=self.device, dtype=self.dtype)
        reward = torch.addcmul(mean, self.noise, chance) if self.gaussian else (chance < mean).to(self.dtype)
        counts = state.counts + (arm == self.numbers)
        sums = state.sums.scatter_add(1, arm, reward.unsqueeze(1))
        ended = counts.sum(1) >= self.num_pulls
        return BanditState(state.means, counts, sums, action, reward), reward, ended

    def observe(self, state: BanditState) -> Tensor:
        """The last pull: (N, K + 1)."""
        arm = (state.arm.unsqueeze(1) == self.numbers).to(self.dtype)
        return torch.cat((arm, state.reward.unsqueeze(1)), dim=1)

    def info(self, state: BanditState) -> dict[str, Tensor]:
        """The regret of the episode so far."""
        return {"regret": (state.counts * (state.means.amax(1, keepdim=True) - state.means)).sum(1)}

    def baseline(self, state: BanditState) -> Tensor:
        """The arm with the highest mean plus 2 standard deviations, times the share of pulls that are left.

        Both are of the posterior of the arm's mean: a Beta distribution with Bernoulli arms, whose prior is uniform,
        and a normal one with Gaussian arms.
        """
        if self.gaussian:
            precision = state.counts + self.noise.square()  # by noise^2
            mean, variance = state.sums / precision, self.noise.square() / precision
        else:
            mean = (state.sums + 1) / (state.counts + 2)
            variance = mean * (1 - mean) / (state.counts + 3)
        left = 1 - state.counts.sum(1, keepdim=True) / self.num_pulls
        return torch.addcmul(mean, left, variance.sqrt(), value=2).argmax(1)

    def render(self, state: BanditState, index: int = 0) -> Tensor:
        """For each arm the mean seen so far (bar), the true one (line) and the pulls, (400, 600, 3) uint8."""
        means, counts, sums = (field[index].tolist() for field in (state.means, state.counts, state.sums))
        last, best = int(state.arm[index]), max(means)
        low, high = (-3.0, 3.0) if self.gaussian else (0.0, 1.0)
        canvas = Canvas(600, 400, world=(0, 0, 600, 400))
        canvas.text((30, 372), f"pull {sum(counts):.0f} of {self.num_pulls}", size=20, anchor="lm")
        canvas.text((300, 372), f"earned {sum(sums):.4g}", size=20)
        canvas.text((570, 372), f"regret {float(self.info(state)['regret'][index]):.3g}", size=20, anchor="rm")

        def height(reward: float) -> float:
            return 70 + 270 * (min(max(reward, low), high) - low) / (high - low)

        room = 550 / self.num_arms
        for arm, (mean, count, total) in enumerate(zip(means, counts, sums, strict=True)):
            left, right = 25 + (arm + 0.12) * room, 25 + (arm + 0.88) * room
            canvas.rectangle(left, height(low), right, height(high), SILVER, radius=0.08 * room)
            if count:
                bottom, top = sorted((height(0), height(total / count)))
                canvas.rectangle(left, bottom, right, max(top, bottom + 2), BLUE if arm == last else SKY)
            color = GREEN if mean == best else INK
            canvas.line([(left - 3, height(mean)), (right + 3, height(mean))], color, width=4)
            if arm == last:
                canvas.circle(((left + right) / 2, 54), 5, ORANGE)
            size = min(18, 0.5 * room)
            canvas.text(((left + right) / 2, 32), f"{count:.0f}", INK if arm == last else GREY, size=size)
        if self.gaussian:
            canvas.line([(20, height(0)), (580, height(0))], GREY, width=1.5)
        return canvas.picture()
