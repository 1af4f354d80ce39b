"""K runs of PQN as one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import torch
from torch import Tensor

from rltrain.agent import Agent
from rltrain.agents.parts.stacked import Stacked
from rltrain.agents.pqn.agent import PQN


class StackedPQN(Stacked, PQN):
    """PQN on K agents at once, see :class:`~rltrain.agents.parts.stacked.Stacked`.

    Raises:
        ConfigError: Their networks cannot be stacked.
    """

    def __init__(self, agents: Sequence[Agent]) -> None:
        first = cast(PQN, agents[0])
        if not first.policy.stackable:
            raise self.refusal()
        super().__init__(agents)
        self.policy = self.stack_network(first.policy)
        self.explore, self.first_action = first.explore, first.first_action

    def _chance(self) -> Tensor:
        return torch.stack([agent._chance() for agent in self.agents])
