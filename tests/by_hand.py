"""PPO and PQN written down plainly: loops over Python numbers, torch's autograd, distributions and Adam.

They share nothing with the agents but the layers of a network, so that mechanisms which compute the same thing in other
ways (many seeds, ranks, compiled, resumed) can be held to them.
"""

from __future__ import annotations

import copy
import threading
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from gymnasium import spaces
from stable_baselines3.common.running_mean_std import RunningMeanStd
from torch import Tensor, nn

from rltrain.agents.ppo.agent import PPO
from rltrain.vec import VecStep

SIZE = 4  # of an observation


@dataclass
class Taken:
    """A step of N environments."""

    obs: Tensor  # (N, SIZE) acted upon
    raw: Tensor  # (N, *A) as the policy chose
    reward: Tensor  # (N,)
    terminated: Tensor  # (N,)
    truncated: Tensor  # (N,)
    final_obs: Tensor  # (N, SIZE) what it led to


class Weather:
    """Outcomes that do not depend on the actions, far from mean 0 and deviation 1, and now and then far out.

    What follows a termination is NaN: nothing may look at it.
    """

    def __init__(self, n: int, seed: int) -> None:
        self.n = n
        self.rng = torch.Generator().manual_seed(seed)
        self.obs = self._drawn()

    def _drawn(self) -> Tensor:
        obs = 5.0 + 3.0 * torch.randn(self.n, SIZE, generator=self.rng)
        far = torch.rand(self.n, SIZE, generator=self.rng) < 0.05
        return torch.where(far, 200.0 * obs, obs)

    def step(self) -> VecStep:
        """The next step."""
        led_to, first = self._drawn(), self._drawn()
        chance = torch.rand(self.n, generator=self.rng)
        terminated, truncated = chance < 0.15, chance > 0.8
        reward = 2.0 * torch.randn(self.n, generator=self.rng) + 1.0
        self.obs = torch.where((terminated | truncated).unsqueeze(1), first, led_to)
        final_obs = led_to.masked_fill(terminated.unsqueeze(1), torch.nan)
        nothing = torch.zeros(self.n)
        return VecStep(self.obs, reward, terminated, truncated, final_obs, nothing, nothing, {})


def collect(agent: Any, weathers: Sequence[Weather]) -> list[list[Taken]]:
    """Plays a rollout in one weather, or in those of several agents that act as one; what was taken in each.

    The environment must have been given what the policy chose, clipped to the bounds or counted from the first action.
    """
    parts: list[list[Taken]] = [[] for _ in weathers]
    given = []
    for _ in range(agent.horizon):
        before = [weather.obs for weather in weathers]
        out = agent.act(torch.cat(before))
        given.append(out.action)
        steps = [weather.step() for weather in weathers]
        joined = [torch.cat(column) for column in zip(*(step[:-1] for step in steps), strict=True)]
        agent.record(out, VecStep(*joined, {}))
        for part, obs, step in zip(parts, before, steps, strict=True):
            part.append(Taken(obs, obs, step.reward, step.terminated, step.truncated, step.final_obs))
    chosen = agent.rollout["raw" if isinstance(agent, PPO) else "action"].clone()
    chosen = chosen if len(weathers) > 1 else chosen.unsqueeze(1)  # (T, K, N, *A)
    space = agent.action_space
    seen = torch.stack(given).view_as(chosen)
    if isinstance(space, spaces.Box):
        low, high = torch.as_tensor(space.low), torch.as_tensor(space.high)
        assert torch.equal(seen, chosen.clamp(low, high))
        assert (chosen < low).any()
        assert (chosen > high).any()
    else:
        assert torch.equal(seen, chosen + int(space.start))
    for k, part in enumerate(parts):
        for t, taken in enumerate(part):
            taken.raw = chosen[t, k]
    return parts


class Scaled:
    """Numbers scaled by their statistics, which Stable-Baselines3 keeps: its VecNormalize, one rollout at a time."""

    def __init__(self, shape: tuple[int, ...] = ()) -> None:
        self.moments = RunningMeanStd(shape=shape)

    def observations(self, obs: Tensor) -> Tensor:
        """Mean 0, deviation 1, at most 10."""
        x = (obs.double().numpy() - self.moments.mean) / np.sqrt(self.moments.var + 1e-8)
        return torch.from_numpy(np.clip(x, -10.0, 10.0)).float()


class ByHand(ABC):
    """An agent, or several ranks of one.

    Args:
        agent: Whose weights and hyperparameters it begins with.
    """

    eps: float  # of Adam

    def __init__(self, agent: Any) -> None:
        self.config = agent.config
        self.policy = copy.deepcopy(agent.policy)
        self.optimizer = torch.optim.Adam(self.policy.parameters(), eps=self.eps)
        self.scaler = Scaled((SIZE,)) if self.config.normalize_obs else None
        self.rewards = Scaled()
        self.returns: dict[int, np.ndarray] = {}  # of the episodes that go on, by rank

    def scaled(self, obs: Tensor) -> Tensor:
        """Observations as the network gets them."""
        return obs if self.scaler is None else self.scaler.observations(obs)

    def learn(self, parts: Sequence[list[Taken]], orders: Sequence[torch.Generator], progress: float = 1.0) -> None:
        """Learns from a rollout, or from those of several ranks.

        Args:
            parts: The rollout of each rank.
            orders: The generators of their minibatches.
            progress: The share of training that is still ahead, for schedules that fall to 0.
        """
        scaled = self._scaled_rewards(parts)
        batches = [self.prepared(steps, reward) for steps, reward in zip(parts, scaled, strict=True)]
        rows = len(batches[0]["obs"])
        for _ in range(self.config.n_epochs):
            cuts = [torch.randperm(rows, generator=order).split(self.config.batch_size) for order in orders]
            for picks in zip(*cuts, strict=True):
                picked = [{name: x[pick] for name, x in b.items()} for b, pick in zip(batches, picks, strict=True)]
                batch = {name: torch.cat([part[name] for part in picked]) for name in picked[0]}
                self.optimizer.zero_grad()
                self.loss(batch, progress).backward()
                nn.utils.clip_grad_norm_(self.policy.parameters(), self.config.max_grad_norm)
                self.optimizer.param_groups[0]["lr"] = at(self.config.learning_rate, progress)
                self.optimizer.step()
        if self.scaler is not None:
            self.scaler.moments.update(torch.cat([taken.obs for steps in parts for taken in steps]).double().numpy())

    def _scaled_rewards(self, parts: Sequence[list[Taken]]) -> list[list[list[float]]]:
        """Rewards by step and environment, over the deviation of the discounted returns if they are to be scaled."""
        plain = [[taken.reward.tolist() for taken in steps] for steps in parts]
        if not getattr(self.config, "normalize_reward", False):
            return plain
        seen = []
        for k, steps in enumerate(parts):
            running = self.returns.get(k, np.zeros(len(steps[0].reward)))
            for taken in steps:
                running = running * self.config.gamma + taken.reward.double().numpy()
                seen.append(running)
                running = np.where((taken.terminated | taken.truncated).numpy(), 0.0, running)
            self.returns[k] = running
        self.rewards.moments.update(np.concatenate(seen))
        scale = 1.0 / np.sqrt(self.rewards.moments.var + 1e-8)
        return [[[float(np.clip(r * scale, -10.0, 10.0)) for r in row] for row in rows] for rows in plain]

    def ends(self, steps: list[Taken]) -> list[list[tuple[bool, bool]]]:
        """(terminated, truncated), by step and environment."""
        return [list(zip(t.terminated.tolist(), t.truncated.tolist(), strict=True)) for t in steps]

    @abstractmethod
    def prepared(self, steps: list[Taken], reward: list[list[float]]) -> dict[str, Tensor]:
        """Rows to learn from, step by step and in each environment by environment."""

    @abstractmethod
    def loss(self, batch: dict[str, Tensor], progress: float) -> Tensor:
        """What is minimised."""

    def _outputs(self, obs: list[Tensor]) -> Any:
        """What the network says to observations of T steps, by autograd's path, without their gradients."""
        return self.policy(self.scaled(torch.cat(obs)))


class PPOByHand(ByHand):
    """Schulman et al. (2017), arXiv:1707.06347, with the details of Stable-Baselines3."""

    eps = 1e-5

    def prepared(self, steps: list[Taken], reward: list[list[float]]) -> dict[str, Tensor]:
        horizon, n = len(steps), len(steps[0].reward)
        obs, raw = [taken.obs for taken in steps], torch.cat([taken.raw for taken in steps])
        params, flat = (x.detach() for x in self._outputs(obs))
        value = flat.view(horizon, n).tolist()
        next_value = self._outputs([taken.final_obs for taken in steps])[1].detach().view(horizon, n).tolist()
        ends, gamma, lambda_ = self.ends(steps), self.config.gamma, self.config.gae_lambda
        advantage = torch.zeros(horizon, n, dtype=torch.float64)
        for i in range(n):
            ahead = 0.0
            for t in reversed(range(horizon)):
                terminated, truncated = ends[t][i]
                future = 0.0 if terminated else gamma * next_value[t][i]
                ahead = (
                    reward[t][i] + future - value[t][i] + (0.0 if terminated or truncated else gamma * lambda_ * ahead)
                )
                advantage[t, i] = ahead
        flat_advantage = advantage.flatten().float()
        return {
            "obs": self.scaled(torch.cat(obs)),
            "raw": raw,
            "log_prob": self.distribution(params).log_prob(raw).detach(),
            "advantage": flat_advantage,
            "value": flat,
            "returns": flat_advantage + flat,
        }

    def distribution(self, params: Tensor) -> torch.distributions.Distribution:
        """torch's own, for the outputs of the network."""
        log_std = getattr(self.policy.distribution, "log_std", None)
        if log_std is None:
            return torch.distributions.Categorical(logits=params)
        return torch.distributions.Independent(torch.distributions.Normal(params, log_std.exp()), 1)

    def loss(self, batch: dict[str, Tensor], progress: float) -> Tensor:
        config, advantage = self.config, batch["advantage"]
        params, value = self.policy(batch["obs"])
        if config.normalize_advantage:
            advantage = (advantage - advantage.mean()) / (advantage.std() + 1e-8)
        distribution = self.distribution(params)
        ratio = (distribution.log_prob(batch["raw"]) - batch["log_prob"]).exp()
        clip = at(config.clip_range, progress)
        surrogate = torch.minimum(advantage * ratio, advantage * ratio.clamp(1 - clip, 1 + clip))
        if config.clip_range_vf is not None:
            most = at(config.clip_range_vf, progress)
            value = batch["value"] + (value - batch["value"]).clamp(-most, most)
        error = (value - batch["returns"]).square().mean()
        return config.vf_coef * error - surrogate.mean() - config.ent_coef * distribution.entropy().mean()


class PQNByHand(ByHand):
    """Gallici et al. (2024), arXiv:2407.04811, algorithm 1."""

    eps = 1e-8

    def prepared(self, steps: list[Taken], reward: list[list[float]]) -> dict[str, Tensor]:
        horizon, n = len(steps), len(steps[0].reward)
        best = self._outputs([taken.final_obs for taken in steps]).detach().amax(1).view(horizon, n).tolist()
        ends, gamma, lambda_ = self.ends(steps), self.config.gamma, self.config.q_lambda
        target = torch.zeros(horizon, n, dtype=torch.float64)
        for i in range(n):
            ahead = 0.0
            for t in reversed(range(horizon)):
                terminated, truncated = ends[t][i]
                if terminated:
                    future = 0.0
                elif truncated or t == horizon - 1:
                    future = best[t][i]
                else:
                    future = lambda_ * ahead + (1.0 - lambda_) * best[t][i]
                ahead = reward[t][i] + gamma * future
                target[t, i] = ahead
        return {
            "obs": self.scaled(torch.cat([taken.obs for taken in steps])),
            "action": torch.cat([taken.raw for taken in steps]),
            "target": target.flatten().float(),
        }

    def loss(self, batch: dict[str, Tensor], progress: float) -> Tensor:
        taken = self.policy(batch["obs"]).gather(1, batch["action"].unsqueeze(1)).squeeze(1)
        return 0.5 * (taken - batch["target"]).square().mean()


def at(schedule: float | str, progress: float) -> float:
    """``lin_X`` falls from X to 0."""
    return float(schedule[4:]) * progress if isinstance(schedule, str) else schedule


class Meeting:
    """The mean over ranks that are threads."""

    def __init__(self, size: int) -> None:
        self.barrier = threading.Barrier(size, timeout=30)
        self.said: list[Tensor] = [torch.empty(0)] * size

    def reduce_of(self, rank: int) -> Any:
        """What a rank calls."""

        def mean(tensor: Tensor) -> Tensor:
            self.said[rank] = tensor.clone()
            self.barrier.wait()
            result = torch.stack(self.said).mean(0)
            self.barrier.wait()
            return result

        return mean
