"""How much score a smaller form of a policy loses: both play the same episodes."""

from __future__ import annotations

from contextlib import closing
from typing import Any

import numpy as np
import torch
from torch import Tensor

from rltrain.agent import Actor, ActOut, State
from rltrain.env import Observation
from rltrain.evaluation.episodes import most_envs, run_episodes
from rltrain.evaluation.statistics import mean_interval
from rltrain.export.onnx_file import OnnxModel
from rltrain.export.whole_policy import WholePolicy
from rltrain.rng import derive_seed
from rltrain.runs.policy import Policy
from rltrain.tree import leaves, tree_map


def loss_of_score(policy: Policy, whole: OnnxModel, small: OnnxModel, episodes: int) -> tuple[dict[str, Any], str]:
    """Plays the same episodes with both and compares their returns.

    Returns:
        The means, the difference and its 95% interval by bootstrap over episodes; and these in words.

    Raises:
        ConfigError: The policy's environment is not known here.
    """
    module = WholePolicy(policy)
    before, after = (_returns(policy, ExportedActor(module, model), episodes) for model in (whole, small))
    differences = after - before  # episode by episode: they start from the same seeds
    low, high = mean_interval(differences)
    facts = {
        "episodes": len(before),
        "mean_reward": float(after.mean()),
        "of_the_original": float(before.mean()),
        "difference": float(differences.mean()),
        "difference_ci95": [low, high],
    }
    text = (
        f"mean return {facts['mean_reward']:.2f} instead of {facts['of_the_original']:.2f} over {len(before)} episodes "
        f"(difference {facts['difference']:+.2f}, 95% {low:+.2f} to {high:+.2f})"
    )
    return facts, text


def _returns(policy: Policy, actor: Actor, episodes: int) -> np.ndarray:
    with closing(policy.make_vec(min(episodes, most_envs(policy.env)))) as vec:
        return run_episodes(actor, vec, episodes, seed=derive_seed(0, "fresh")).returns


class ExportedActor(Actor):
    """An exported policy in the environment of its run, between the agent's tensors and the environment's own.

    Args:
        module: The policy that was exported.
        model: What was made of it.
    """

    def __init__(self, module: WholePolicy, model: OnnxModel) -> None:
        super().__init__()
        self.translation, self.signature, self.initial = module.translation, module.signature, module.initial
        self.model = model

    def initial_state(self, n: int) -> State:
        """The state at the start of an episode."""
        return tree_map(lambda part: part.expand(n, *part.shape[1:]).clone(), self.initial)

    def choose(self, obs: Observation, state: State, *, deterministic: bool, rng: torch.Generator | None) -> ActOut:
        """Actions (N, *A) as the agent gives them."""
        rows = next(leaves(obs)).shape[0]
        given: list[np.ndarray] = []
        for array, leaf in zip(self.signature.observations, self.translation.leaves, strict=True):
            part = obs[leaf.name] if isinstance(obs, dict) else obs
            given.append(part.cpu().numpy().reshape(rows, *array.shape).astype(array.dtype, copy=False))
        if self.signature.state:
            given += [*(part.numpy() for part in leaves(state)), np.zeros(rows, bool)]
        names = [array.name for array in self.signature.inputs]
        action, *flat = self.model.run(dict(zip(names, given, strict=True))).values()
        rest = iter(flat)
        return ActOut(self._of_agent(torch.from_numpy(action)), tree_map(lambda _: torch.from_numpy(next(rest)), state))

    def _of_agent(self, action: Tensor) -> Tensor:
        """The inverse of what the translation does to the agent's actions."""
        own = self.translation.actions
        if self.translation.bounds is None:
            kind = torch.from_numpy(np.empty(0, own.dtype)).dtype
            return action.to(kind).reshape(action.shape[0], *(own.space.shape or ()))
        low, high = self.translation.bounds
        return (action.to(low.dtype) - low) / (high - low).clamp(min=1e-12) * 2.0 - 1.0
