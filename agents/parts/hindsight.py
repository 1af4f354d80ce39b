"""Hindsight experience replay: Andrychowicz et al. (2017), arXiv:1707.01495."""

from __future__ import annotations

from typing import Any

import torch
from gymnasium import spaces
from torch import Tensor

from rltrain.agents.parts.replay import Batch, Replay
from rltrain.env import Observation
from rltrain.vec import ACHIEVED, DESIRED, Goals


class HindsightReplay(Replay):
    """A replay that also shows transitions as if another goal had been asked for: one reached later in the episode.

    The strategy is "future" of section 4.5: of every ``n_sampled_goal + 1`` transitions drawn, all but one, on average,
    get the goal achieved in a step drawn uniformly from theirs to the last of their episode, and the reward for it.
    Goals are chosen anew whenever a transition is drawn. Stable-Baselines3 leaves out the episode that is running; here
    its steps so far count.

    Args:
        capacity: Steps to remember, over all environments.
        num_envs: N.
        device: Device of the ring.
        gamma: Discount factor.
        n_sampled_goal: Goals reached later for each one that was asked for.

    Attributes:
        goals: The rewards of goals; to be set before the first draw.
    """

    goals: Goals

    def __init__(
        self, capacity: int, num_envs: int, device: torch.device, *, gamma: float, n_sampled_goal: int = 4
    ) -> None:
        super().__init__(capacity, num_envs, device, gamma=gamma)
        self.share = n_sampled_goal / (n_sampled_goal + 1)
        # Episodes are numbered round and round: one has a row at least, so those in the ring have different numbers.
        self.number = torch.zeros(num_envs, dtype=torch.int64, device=device)  # (N,) of the running episodes
        self.last = torch.zeros(0, dtype=torch.int64, device=device)  # (places,) by number and environment: its end

    def memory(self, observation_space: spaces.Space, action_space: spaces.Space) -> int:
        """Memory in bytes."""
        return super().memory(observation_space, action_space) + 12 * self.places

    def _put(
        self, action: Tensor, reward: Tensor, terminated: Tensor, truncated: Tensor, final_obs: Observation
    ) -> None:
        here = self.head.clone()
        self._ring["episode"].index_copy_(0, here, self.number.to(torch.int32))
        super()._put(action, reward, terminated, truncated, final_obs)
        lanes = here % self.num_envs
        self.last.index_copy_(0, self.number * self.num_envs + lanes, self._after(here))
        self.number.add_(terminated | truncated).remainder_(self.rows)

    def _kept_apart(self, terminated: Tensor, truncated: Tensor) -> Tensor:
        return truncated | terminated  # what the last step achieved is a goal as well

    def sample(self, batch_size: int, rng: torch.Generator | None) -> Batch:
        """Draws transitions uniformly, most of them with another goal."""
        batch = super().sample(batch_size, rng)
        chance = torch.rand(2, batch_size, device=self.device, generator=rng)
        later = chance[0] < self.share
        obs: Any = batch.obs  # a dict, since it has goals
        following: Any = batch.next_obs
        goal = _rows(later, self._read("obs", self._later(batch.place, chance[1]))[ACHIEVED], obs[DESIRED])
        achieved = following[ACHIEVED]
        reward = torch.where(later, self.goals.reward(achieved, goal), batch.reward)
        terminated = batch.terminated
        if self.goals.terminated is not None:
            terminated = torch.where(later, self.goals.terminated(achieved, goal), terminated)
        return batch._replace(
            obs={**obs, DESIRED: goal},
            next_obs={**following, DESIRED: goal},
            reward=reward,
            terminated=terminated,
        )

    def _later(self, index: Tensor, chance: Tensor) -> Tensor:
        """Places (B,) after steps of the same episodes, from that at ``index`` to the last, each as likely."""
        ends = self.last[self._ring["episode"][index].long() * self.num_envs + index % self.num_envs]
        steps = (ends - index) // self.num_envs % self.rows
        ahead = torch.minimum((chance * steps).long() + 1, steps)
        return (index + ahead * self.num_envs) % self.places

    def state_dict(self) -> dict[str, Any]:
        """The stored data, and where episodes end."""
        state = super().state_dict()
        return {**state, "number": self.number, "last": self.last} if state else {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Puts back what :meth:`state_dict` gave."""
        super().load_state_dict(state)
        if state:
            self.number.copy_(state["number"])
            self.last.copy_(state["last"])

    def _allocate(self, obs: Observation) -> None:
        super()._allocate(obs)
        self._ring["episode"] = torch.zeros(self.places, dtype=torch.int32, device=self.device)
        self.last = torch.zeros(self.places, dtype=torch.int64, device=self.device)


def _rows(where: Tensor, these: Tensor, others: Tensor) -> Tensor:
    """``these`` rows (B, *) where it holds, the others elsewhere."""
    return torch.where(where.view(-1, *[1] * (these.dim() - 1)), these, others)
