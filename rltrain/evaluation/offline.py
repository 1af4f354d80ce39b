"""Offline evaluation: what a policy would earn, estimated from a dataset of other policies without playing."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from gymnasium import spaces

from rltrain.agent import Actor
from rltrain.data.columns import REWARD
from rltrain.data.dataset import Dataset
from rltrain.data.view import AgentView, chunks
from rltrain.errors import ConfigError
from rltrain.evaluation.fitted_q import FittedQ
from rltrain.evaluation.importance import Estimate, importance_estimates, mean_return
from rltrain.registry import agent_class, agent_config_class

FQE_STEPS = 4_000
"""Gradient steps of fitted Q evaluation."""
FEW = 10
"""Effective episodes below which estimates by importance sampling are called unreliable."""
NAMES = {
    "data": "mean of the data",
    "fqe": "fitted Q evaluation",
    "is": "importance sampling",
    "wis": "weighted importance sampling",
    "pdis": "per-decision importance sampling",
    "wpdis": "weighted per-decision",
}
"""The estimates, by the names they have in JSON."""


@dataclass(frozen=True)
class OfflineEvaluation:
    """The outcome of an offline evaluation.

    Attributes:
        estimates: By name, see :data:`NAMES`; ``data`` is what the policies that recorded it earned.
        gamma: Discount factor.
        episodes: How many there are in the dataset.
        effective: Effective number of episodes of importance sampling; None if there was none.
        notes: What limits the estimates, in sentences.
    """

    estimates: dict[str, Estimate]
    gamma: float
    episodes: int
    effective: float | None = None
    notes: list[str] = field(default_factory=list)

    def summary(self) -> dict[str, Any]:
        """As JSON values."""
        return {
            "gamma": self.gamma,
            "episodes": self.episodes,
            "effective_episodes": self.effective,
            "estimates": {
                name: {"value": each.value, "ci95": list(each.interval)} for name, each in self.estimates.items()
            },
            "notes": self.notes,
        }


def evaluate_offline(
    actor: Actor,
    observation_space: spaces.Space,
    action_space: spaces.Space,
    dataset: Dataset,
    *,
    gamma: float = 0.99,
    behaviour: Actor | None = None,
    deterministic: bool = True,
    fqe_steps: int = FQE_STEPS,
    seed: int = 0,
    device: torch.device | str = "cpu",
) -> OfflineEvaluation:
    """Estimates the expected discounted return of a policy from the first observations of a dataset's episodes.

    Args:
        actor: The policy, without memory.
        observation_space: Space of a single observation as the policy sees it.
        action_space: Space of a single action of the policy.
        dataset: Episodes of other policies.
        gamma: Discount factor, below 1.
        behaviour: The policy that recorded the dataset, sampling its actions; None to estimate it by cloning.
        deterministic: Whether the policy takes its likeliest action rather than a sample.
        fqe_steps: Gradient steps of fitted Q evaluation.
        seed: Seed of everything random.
        device: Where it is computed.

    Raises:
        DatasetError: The dataset does not fit the policy.
        ConfigError: The policy has memory, or ``gamma`` is not between 0 and 1.
    """
    if not 0.0 <= gamma < 1.0:
        raise ConfigError(f"gamma={gamma:g} is not between 0 and 1.", "Give --gamma 0.99 or another number below 1.")
    if actor.initial_state(1) is not None:
        raise ConfigError("A policy with memory is not evaluated offline.", "Give one without, or play episodes.")
    spaces_ = observation_space, action_space
    lengths = dataset.episodes.length
    rewards = dataset.take(REWARD, np.arange(len(dataset))).astype(np.float64)
    estimates, notes = {"data": mean_return(rewards, lengths, gamma, seed=seed)}, []
    fitted = FittedQ(dataset, actor, *spaces_, gamma=gamma, deterministic=deterministic, device=device, seed=seed)
    fitted.fit(fqe_steps)
    estimates["fqe"] = fitted.value()
    effective = None
    if isinstance(action_space, spaces.Box) and deterministic:
        notes.append("No importance sampling: a policy that takes one number of a continuum never repeats an action.")
    else:
        view = AgentView(dataset, *spaces_, device=device)
        if behaviour is None:
            behaviour = clone(dataset, *spaces_, seed=seed, device=device)
            notes.append("Who recorded the data was estimated by cloning.")
        ratios = _log_ratios(view, actor, behaviour, len(dataset), deterministic)
        found, effective = importance_estimates(ratios, rewards, lengths, gamma, seed=seed)
        estimates |= found
        if effective < FEW:
            what = f"The weights of importance sampling are those of {effective:.1f} effective episodes"
            notes.append(f"{what}: do not trust it here.")
    return OfflineEvaluation(estimates, gamma, len(lengths), effective, notes)


@torch.no_grad()
def _log_ratios(
    view: AgentView, actor: Actor, behaviour: Actor, steps: int, deterministic: bool
) -> np.ndarray[Any, np.dtype[np.float64]]:
    """By how much likelier the policy takes the actions of the data than who recorded them, as logarithms (S,)."""
    ratios = np.empty(steps)
    for chunk in chunks(np.arange(steps)):
        obs, action = view.obs(chunk), view.action(chunk)
        if deterministic:
            same = (actor(obs).action == action).reshape(len(chunk), -1).all(1)
            likely = torch.zeros(len(chunk), device=same.device).masked_fill(~same, -torch.inf)
        else:
            likely = actor.log_likelihood(obs, action)
        recorded = behaviour.log_likelihood(obs, action)
        ratios[chunk] = (likely.double() - recorded.double()).cpu().numpy()
    return ratios


def clone(
    dataset: Dataset,
    observation_space: spaces.Space,
    action_space: spaces.Space,
    *,
    updates: int = 500,
    seed: int = 0,
    device: torch.device | str = "cpu",
) -> Actor:
    """The policy that recorded a dataset, as the agent ``bc`` estimates it, with an early stop on held-out episodes."""
    options: dict[str, Any] = {"val_fraction": 0.0, "normalize_obs": _scalable(observation_space)}
    if len(dataset.episodes) >= 10:
        options |= {"val_fraction": 0.1, "val_freq": 5, "patience": 5}
    config = agent_config_class("bc").model_validate(options)
    agent: Any = agent_class("bc")(observation_space, action_space, 1, config, device=device, seed=seed)
    agent.use_data(dataset)
    for _ in range(updates):
        agent.learn()
        if agent.finished:
            break
    agent.conclude()
    return agent.actor


def _scalable(space: spaces.Space) -> bool:
    return isinstance(space, spaces.Box) and len(space.shape) == 1
