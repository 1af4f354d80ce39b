"""K runs of PPO as one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import torch
from torch import Tensor

from rltrain.agent import Agent
from rltrain.agents.parts.stacked import Stacked
from rltrain.agents.ppo.agent import PPO


class StackedPPO(Stacked, PPO):
    """PPO on K agents at once, see :class:`~rltrain.agents.parts.stacked.Stacked`.

    Raises:
        ConfigError: Their networks cannot be stacked.
    """

    def __init__(self, agents: Sequence[Agent]) -> None:
        first = cast(PPO, agents[0])
        if not first.policy.stackable or first.teacher is not None:
            raise self.refusal()
        super().__init__(agents)
        self.policy = self.stack_network(first.policy)
        self.distribution = self.policy.distribution
        self.loss_config = first.loss_config

    def _keep_policy(self, kept: bool) -> None:
        for agent in self.agents:
            agent._keep_policy(kept)

    def _noise(self) -> Tensor:
        return torch.stack([agent._noise() for agent in self.agents], 1)

    def _scaled(self, reward: Tensor, terminated: Tensor, truncated: Tensor) -> Tensor:
        parts = zip(self.agents, reward.unbind(1), terminated.unbind(1), truncated.unbind(1), strict=True)
        return torch.stack([agent._scaled(*part) for agent, *part in parts], 1)
