"""Target networks: slow copies of trained networks, which targets of learning are computed with."""

from __future__ import annotations

import copy
from typing import Any, TypeVar

from gymnasium import spaces
from torch import Tensor, nn

from rltrain.agent import Agent
from rltrain.agents.parts.optim import FlatAdam, lay_flat

Network = TypeVar("Network", bound=nn.Module)


class TargetNetworks(Agent):
    """An agent with target networks; its config has ``tau``. See :class:`~rltrain.agent.Agent` for the arguments."""

    config: Any

    def __init__(
        self, observation_space: spaces.Space, action_space: spaces.Space, num_envs: int, config: Any, **options: Any
    ) -> None:
        super().__init__(observation_space, action_space, num_envs, config, **options)
        self.followed: list[tuple[Tensor, FlatAdam]] = []  # (parameters of a target, optimizer of its network)

    def make_target(self, network: Network, optimizer: FlatAdam) -> Network:
        """A copy of a network that moves towards it by the share ``tau`` every ``target_update_interval``.

        Args:
            network: The network to copy.
            optimizer: Trains the parameters of this network and no others.

        Raises:
            ValueError: The optimizer trains other parameters.
        """
        if [id(parameter) for parameter in network.parameters()] != [id(each) for each in optimizer.parameters]:
            raise ValueError("a network that a target follows needs an optimizer of its own")
        target = copy.deepcopy(network).requires_grad_(False)
        self.followed.append((lay_flat(list(target.parameters())), optimizer))
        return target

    def _move_targets(self, times: int) -> None:
        """Moves the targets this many times, in one larger move, since the networks do not change in between."""
        if times:
            share = 1.0 - (1.0 - self.config.tau) ** times
            for flat, optimizer in self.followed:
                flat.lerp_(optimizer.flat.detach(), share)

    def _optimizers(self) -> dict[str, FlatAdam]:
        """The optimizers by attribute name."""
        return {name: value for name, value in vars(self).items() if isinstance(value, FlatAdam)}
