"""PQN: Q-learning on rollouts of many environments, with a network whose layers are normalised."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, ClassVar

import torch
from gymnasium import spaces
from torch import Tensor

from rltrain.agent import ActOut, Metrics, State
from rltrain.agents.parts.actors import GreedyActor
from rltrain.agents.parts.exploration import EpsilonGreedy, epsilon_at
from rltrain.agents.parts.on_policy import OnPolicyAgent
from rltrain.agents.parts.optim import FlatAdam
from rltrain.agents.parts.q_network import QNetwork, at_action, from_policy, valued_without_choice
from rltrain.agents.parts.returns import lambda_returns
from rltrain.agents.parts.rollout import in_chunks
from rltrain.agents.pqn.config import PQNConfig
from rltrain.env import Observation
from rltrain.rng import derive_seed, seeded
from rltrain.schedules import value_at
from rltrain.spaces import bytes_of
from rltrain.tree import tree_map

LOOKED_AT = 256  # states whose values are compared at log points, or those of one environment


class PQN(OnPolicyAgent):
    """Parallelised Q-learning, Gallici et al. (2024), arXiv:2407.04811, algorithm 1.

    Args:
        observation_space: Space of a single observation.
        action_space: Space of a single action, Discrete.
        num_envs: N.
        config: Hyperparameters.
        device: Where everything lives.
        seed: Seed of the initial weights, the exploration and the minibatches.

    Raises:
        ConfigError: The action space is not Discrete, or no network fits the observation space.
    """

    config: PQNConfig
    compiled_methods = ("_choose", "_loss")
    graph_methods: ClassVar = {"_choose": False, "targets": False, "_update": True}

    def __init__(
        self,
        observation_space: spaces.Space,
        action_space: spaces.Space,
        num_envs: int,
        config: PQNConfig,
        *,
        device: torch.device | str = "cpu",
        seed: int = 0,
    ) -> None:
        super().__init__(observation_space, action_space, num_envs, config, device=device, seed=seed)
        with seeded(derive_seed(seed, "weights")):
            self.policy = QNetwork(observation_space, action_space, config.policy_kwargs).to(self.device)
        self.recurrent = self.policy.memory is not None
        self.optimizer = FlatAdam(self.policy.parameters(), eps=1e-8, max_grad_norm=config.max_grad_norm)
        self.explore = EpsilonGreedy(self.horizon, num_envs, self.policy.n_actions, self.device, self.rng)
        self.first_action = int(getattr(action_space, "start", 0))
        self.actor = GreedyActor(self.policy, config.exploration_final_eps, self.first_action, self.obs_normalizer)

    def from_policy(self, state: Mapping[str, Tensor], config: Callable[[], Any]) -> dict[str, Tensor]:
        """Takes the logits of a policy's actions, such as a clone's, for their values."""
        return {name: tensor for name, tensor in from_policy(state).items() if not name.startswith("target.")}

    def use_bfloat16(self) -> None:
        """Lets the network multiply in bfloat16."""
        self.policy.use_bfloat16(self.device)

    def memory(self) -> int:
        """Bytes of the rollout, of its shuffled copy, and of the values computed for all of it."""
        return self.horizon * self.num_envs * (3 * bytes_of(self.observation_space) + 64) + self.bytes_of_states()

    @property
    def epsilon(self) -> float:
        """The chance of a random action."""
        return epsilon_at(self.config, self.progress_remaining)

    @torch.no_grad()
    def act(self, obs: Observation, state: State = None) -> ActOut:
        """Epsilon-greedy actions (N,); stores them, the observations and the next states."""
        state = self.state_before(state)
        action, state = self._choose(obs, self.scalar(self.epsilon), self._chance(), state)
        self.rollout.store(obs=obs, action=action, state=state)
        return ActOut(action + self.first_action if self.first_action else action, state)

    def _choose(self, obs: Observation, epsilon: float | Tensor, chance: Tensor, state: State) -> tuple[Tensor, State]:
        """Actions (N,), counted from 0, and the state after the observations."""
        values, state = self.policy.step(self._normalized(obs), state)
        return self.explore.choose(values, obs, epsilon, chance), state

    def learn(self) -> Metrics:
        """Runs ``n_epochs`` over the rollout; metrics are means over the minibatches."""
        config = self.config
        obs = self._flat(self._normalized(self.rollout["obs"]))
        action, target = self._flat(self.rollout["action"]), self.targets()
        taken = at_action(torch.ones_like(target), action, self.policy.n_actions)
        batch = {"obs": obs, "taken": taken, "target": target}
        learning_rate = value_at(config.learning_rate, self.progress_remaining)
        step_size = self.scalar(learning_rate)
        losses, norms = [], []
        for _ in range(config.n_epochs):
            for minibatch in self._minibatches(batch):
                loss, norm = self._update(minibatch, step_size)
                losses.append(loss)
                norms.append(norm)
        self.n_updates += config.n_epochs
        self._update_obs_normalizer()
        self.rollout.clear()
        return {
            "rollout/exploration_rate": self.epsilon,
            "train/loss": torch.stack(losses).mean(0),
            "train/grad_norm": torch.stack(norms).mean(0),
            "train/q_target": target.mean(-1),
            "train/learning_rate": learning_rate,
            "train/n_updates": self.n_updates,
        }

    @torch.no_grad()
    def signs(self) -> Metrics:
        """The largest reward, and how far the values of states differ, those of a few environments."""
        reward, obs = self.last_rollout("reward"), self.last_rollout("obs")
        if reward is None:
            return {}
        signs: Metrics = {"rollout/reward_max": reward.abs().amax()}
        if not self.recurrent:
            some = tree_map(lambda x: x[:, : max(1, LOOKED_AT // self.horizon)].flatten(0, 1), obs)
            values = self.policy(self._normalized(some)).amax(-1)
            signs["train/value_spread"] = values.std(correction=0)
        return signs

    def distributions(self) -> dict[str, Tensor]:
        """Actions."""
        action = self.last_rollout("action")
        return {} if action is None else {"actions": action.flatten() + self.first_action}

    def _update(self, minibatch: dict[str, Any], learning_rate: float | Tensor) -> tuple[Tensor, Tensor]:
        """Takes a step on a minibatch; returns the loss and the norm of the gradient."""
        scalar, loss = self._loss(minibatch)
        return loss, self.optimizer.step(scalar, learning_rate, reduce=self.reduce)

    def _loss(self, minibatch: dict[str, Any]) -> tuple[Tensor | None, Tensor]:
        """See :func:`td_loss`."""
        return td_loss(self.policy, minibatch)

    @torch.no_grad()
    def targets(self) -> Tensor:
        """Q(lambda) returns (T * N,) of the rollout; the values after all steps are computed in one pass."""
        rollout, config = self.rollout, self.config
        final = self._flat(self._normalized(rollout["final_obs"])), self._flat(rollout["state"])
        following = in_chunks(lambda pair: self._highest(*pair), final, 16_384)
        returns = lambda_returns(
            rollout["reward"],
            self._by_step(following),
            rollout["terminated"],
            rollout["truncated"],
            gamma=config.gamma,
            q_lambda=config.q_lambda,
        )
        return self._flat(returns)

    def _highest(self, obs: Observation, state: State) -> Tensor:
        """The value (..., B) of the best allowed action; 0 where none is allowed."""
        values, _ = self.policy.step(obs, state)
        return valued_without_choice(values, obs, self.policy).amax(-1)

    def _chance(self) -> Tensor:
        """Random numbers for the actions of a step."""
        return self.explore.chance()


def td_loss(policy: QNetwork, batch: Any) -> tuple[Tensor | None, Tensor]:
    """Half the mean square of the error, as in algorithm 1, and its gradient.

    Args:
        policy: The network being trained, or K of them with stacked parameters.
        batch: Rows of ``obs`` (..., B, *O), ``target`` (..., B) and ``taken`` (..., B, A): 1 for the action that was
            taken, 0 for the others.

    Returns:
        A scalar to differentiate, or None if the gradients are already in place, and the loss (...).
    """
    values, back = policy.evaluate(batch["obs"])
    rows = batch["target"].shape[-1]
    error = (values - batch["target"].unsqueeze(-1)) * batch["taken"]
    return back(error / rows), error.square().sum((-2, -1)) / (2 * rows)
