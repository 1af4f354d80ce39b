"""Diagnoses the policy at the end of a run: whether its weights exploded, and whether it looks at observations."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from gymnasium import spaces
from torch import Tensor

from rltrain.agent import ACTOR, Actor, ActOut, State
from rltrain.env import Observation
from rltrain.evaluation.episodes import Evaluation

EXPLODED = 100.0
"""Root mean square of a layer's weights from which nothing can be learned any more; layers begin at about 0.1."""
EPISODES, STEPS = 10, 200
"""The fewest episodes and steps of an evaluation by which a policy is judged."""


class Witness(Actor):
    """An actor that remembers whether it ever gave two different actions.

    Args:
        actor: The actor that acts.
    """

    def __init__(self, actor: Actor) -> None:
        super().__init__()
        self.actor = actor
        self.first: Tensor | None = None  # (1, *A)
        self.varies: Tensor | None = None  # 0-d bool

    def initial_state(self, n: int) -> State:
        """That of the actor."""
        return self.actor.initial_state(n)

    def choose(self, obs: Observation, state: State, *, deterministic: bool, rng: torch.Generator | None) -> ActOut:
        """The actor's answer."""
        out = self.actor.choose(obs, state, deterministic=deterministic, rng=rng)
        if self.first is None or self.varies is None:
            self.first = out.action[:1].clone()
            self.varies = torch.zeros((), dtype=torch.bool, device=out.action.device)
        self.varies = self.varies | (out.action != self.first).any()
        return out

    @property
    def only_action(self) -> Tensor | None:
        """The action (*A) that it gave in every step; None if there were several."""
        return None if self.first is None or bool(self.varies) else self.first[0]


def diagnose(
    modules: Mapping[str, Tensor],
    action_space: spaces.Space,
    witness: Witness | None,
    evaluation: Evaluation | None,
    threshold: float | None,
) -> str | None:
    """What is wrong with a policy, in a sentence; None if nothing is seen.

    Args:
        modules: The ``state_dict`` of the agent.
        action_space: Space of a single action.
        witness: What was seen of its actions in the evaluation.
        evaluation: The evaluation at the end.
        threshold: Mean return at which the task counts as solved.
    """
    for name, tensor in modules.items():
        if not (name.startswith(ACTOR) and tensor.dim() > 1 and tensor.is_floating_point()):
            continue
        size = float(tensor.to(torch.float32).square().mean().sqrt())
        if size > EXPLODED:
            what = f"The policy has exploded: the weights of '{name}' are about {size:,.0f} in size."
            return f"{what} Lower --agent.learning-rate."
    if witness is None or evaluation is None or (action := witness.only_action) is None:
        return None
    steps = int(evaluation.lengths.sum())
    solved = threshold is not None and evaluation.mean_reward >= threshold
    one_action = isinstance(action_space, spaces.Discrete) and action_space.n == 1
    if solved or one_action or len(evaluation.returns) < EPISODES or steps < STEPS:
        return None
    return (
        f"The policy takes the same action, {action.tolist()}, in each of {steps:,} steps of the evaluation: it has "
        "collapsed, or has not learned to look at the observations."
    )
