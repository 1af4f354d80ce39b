"""Cloning: Pomerleau (1991), "Efficient Training of Artificial Neural Networks for Autonomous Navigation"."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from gymnasium import spaces
from torch import Tensor

from rltrain.agent import Metrics
from rltrain.agents.bc.config import BCConfig
from rltrain.agents.bc.loss import agreement, cloning_loss
from rltrain.agents.bc.privacy import PrivateGradients
from rltrain.agents.parts.actors import DistributionActor, keep_some_noise, make_actor
from rltrain.agents.parts.distributions import Gaussian
from rltrain.agents.parts.networks import ACTIVATIONS, mask_logits
from rltrain.agents.parts.offline import OfflineAgent, Shuffled, take_in
from rltrain.agents.parts.optim import FlatAdam
from rltrain.data.dataset import Dataset
from rltrain.data.split import assign
from rltrain.data.view import AgentView, chunks, refuse_forbidden_actions
from rltrain.env import Observation
from rltrain.errors import ConfigError
from rltrain.normalize import ObservationNormalizer, check_scaled
from rltrain.rng import derive_seed, generator_state, make_generator, seeded, set_generator_state
from rltrain.schedules import value_at

MEASURES = {True: "mean_squared_error", False: "accuracy"}


class BC(OfflineAgent):
    """Learns to act as a dataset does, and measures how well on episodes that it has not learned from.

    Args:
        observation_space: Space of a single observation.
        action_space: Space of a single action.
        num_envs: N; not used.
        config: Hyperparameters.
        device: Where everything lives.
        seed: Seed of the initial weights, the held-out episodes, the order of the data and the dropout.

    Raises:
        ConfigError: There is no network or distribution for one of the spaces.
    """

    config: BCConfig

    def __init__(
        self,
        observation_space: spaces.Space,
        action_space: spaces.Space,
        num_envs: int,
        config: BCConfig,
        *,
        device: torch.device | str = "cpu",
        seed: int = 0,
    ) -> None:
        super().__init__(observation_space, action_space, num_envs, config, device=device, seed=seed)
        normalizer = ObservationNormalizer(observation_space, device=self.device) if config.normalize_obs else None
        with seeded(derive_seed(seed, "weights")):
            actor = make_actor(
                observation_space, action_space, config.policy_kwargs, config.policy_kwargs.net_arch, normalizer
            )
        self.actor: DistributionActor = actor.to(self.device)
        self.distribution = actor.distribution
        self.optimizer = FlatAdam(
            [each for each in self.actor.parameters() if each.requires_grad],
            eps=1e-8,
            max_grad_norm=config.max_grad_norm,
        )
        self.rng = make_generator(self.device, derive_seed(seed, "agent"))
        self.measure = MEASURES[isinstance(self.distribution, Gaussian)]
        self.log_interval = 4
        self.n_updates = 0  # gradient steps
        self.best_loss, self.waited = float("inf"), 0
        self.best = self.optimizer.flat.detach().clone()
        self.private: PrivateGradients | None = None

    def check(self) -> None:
        """Refuses options that would have no effect.

        Raises:
            ConfigError: There is one.
        """
        config = self.config
        if config.label_smoothing and isinstance(self.distribution, Gaussian):
            raise ConfigError("label_smoothing is for choices, and these are Box actions.", "Leave it out.")
        if config.patience and not config.val_fraction:
            raise ConfigError("patience needs a validation loss.", "Give --agent.val-fraction.")
        if config.val_by is not None and not config.val_fraction:
            raise ConfigError("val_by is for held-out episodes, of which there are none.", "Give --agent.val-fraction.")
        if config.dropout and not any(True for _ in self.actor.get_submodule("pi").children()):
            raise ConfigError("dropout is for hidden layers, of which there are none.", "Give policy_kwargs.net_arch.")
        fields = {name: field for name, field in BCConfig.model_fields.items() if name.startswith("dp_")}
        others = [name for name, field in fields.items() if getattr(config, name) != field.default]
        if config.dp_epsilon is None and others:
            raise ConfigError(f"{others[0]} is for learning with differential privacy.", "Give --agent.dp-epsilon.")
        if config.dp_epsilon is not None and (config.val_fraction or config.normalize_obs):
            what = "val_fraction" if config.val_fraction else "normalize_obs"
            raise ConfigError(
                f"{what} would use the data without noise, and dp_epsilon promises that nothing does.",
                f"Give --agent.{what.replace('_', '-')} {'0' if config.val_fraction else 'false'}.",
            )
        if config.normalize_obs:
            check_scaled(self.observation_space)

    def use_data(self, dataset: Dataset) -> None:
        """Divides the dataset into episodes to learn from and held-out ones; see :class:`OfflineAgent`.

        Raises:
            DatasetError: It does not fit the spaces, or has actions that their masks forbid.
            ConfigError: There are too few episodes to hold some out, or ``val_by`` is not there.
        """
        config = self.config
        self.view = AgentView(dataset, self.observation_space, self.action_space, device=self.device)
        refuse_forbidden_actions(dataset, self.action_space)
        if config.dp_epsilon is not None:
            self.private = self._private(dataset, config.dp_epsilon)
        held_out = np.zeros(len(dataset.episodes), bool)
        if config.val_fraction:
            shares = {"train": 1.0 - config.val_fraction, "held-out": config.val_fraction}
            held_out = assign(dataset, shares, by=config.val_by, seed=derive_seed(self.seed, "held-out")) == 1
        self.held_out = dataset.steps_of(np.flatnonzero(held_out))
        steps = dataset.steps_of(np.flatnonzero(~held_out))
        self.batches = Shuffled(steps, config.batch_size, derive_seed(self.seed, "data"))
        if self.actor.obs_normalizer is not None and not self.n_updates:
            take_in(self.actor.obs_normalizer, self.view, steps)

    def learn(self) -> Metrics:
        """Takes ``gradient_steps`` steps; now and then also computes the loss on the held-out episodes."""
        config, rows = self.config, []
        step = self._step if self.private is None else self._private_step
        learning_rate = value_at(config.learning_rate, self.progress_remaining)
        for _ in range(config.gradient_steps):
            before = self.optimizer.flat.detach().clone() if config.weight_decay else None
            rows.append(step(learning_rate))
            if before is not None:  # of the weights that the gradient was computed at
                self.optimizer.flat.data.sub_(before, alpha=learning_rate * config.weight_decay)
            keep_some_noise(self.distribution)
        self.n_updates += config.gradient_steps
        means = torch.stack(rows).mean(0)
        metrics: Metrics = {"train/loss": means[0], "train/grad_norm": means[1], f"train/{self.measure}": means[2]}
        metrics["train/learning_rate"] = learning_rate
        metrics["train/n_updates"] = self.n_updates
        if self.private is None:
            metrics["train/epochs"] = self.batches.passes
        else:
            metrics["privacy/epsilon"] = self.private.spent()
            self.finished = self.private.spent(config.gradient_steps) > self.private.budget
        if len(self.held_out) and (self.n_updates // config.gradient_steps) % config.val_freq == 0:
            metrics |= self.validate()
        return metrics

    def _loss(self, steps: np.ndarray) -> tuple[Tensor, Tensor]:
        """The mean loss of some steps, and how far the policy agrees with them, each 0-d."""
        raw = self.distribution.from_env(self.view.action(steps))
        params = self.params(self.view.obs(steps))
        loss = cloning_loss(self.distribution, params, raw, self.config.label_smoothing).mean()
        return loss, agreement(self.distribution, params.detach(), raw).mean()

    def _step(self, learning_rate: float) -> Tensor:
        """A step on the next minibatch: its loss, the norm of the gradient and the agreement, (3,)."""
        loss, agreed = self._loss(next(self.batches))
        norm = self.optimizer.step(loss, learning_rate, reduce=self.reduce)
        return torch.stack([loss.detach(), norm, agreed])

    def _private_step(self, learning_rate: float) -> Tensor:
        """The same with differential privacy; zeros where no unit takes part."""
        assert self.private is not None
        measured: list[Tensor] = []

        def loss_of(steps: np.ndarray) -> Tensor:
            loss, agreed = self._loss(steps)
            measured.append(torch.stack([loss.detach(), agreed]))
            return loss

        self.private.put(self.optimizer, loss_of, self.private.draw())
        norm = self.optimizer.step(None, learning_rate, reduce=self.reduce)
        loss, agreed = torch.stack(measured).mean(0) if measured else torch.zeros(2, device=self.device)
        return torch.stack([loss, norm, agreed])

    def _private(self, dataset: Dataset, budget: float) -> PrivateGradients:
        """The noisy gradients.

        Raises:
            ConfigError: The options do not fit the dataset, or the first update would spend the budget.
        """
        config = self.config
        private = PrivateGradients(
            dataset,
            by=config.dp_by,
            expected=config.dp_units,
            rows=max(1, config.batch_size // config.dp_units),
            clip=config.dp_clip,
            noise=config.dp_noise,
            budget=budget,
            delta=config.dp_delta,
            device=self.device,
        )
        if (first := private.spent(config.gradient_steps)) > budget:
            raise ConfigError(
                f"The first update alone spends an epsilon of {first:.3g}, and dp_epsilon is {budget:g}.",
                "Raise --agent.dp-noise, or lower --agent.dp-units.",
            )
        return private

    def privacy(self) -> dict[str, Any] | None:
        """What the policy promises to those whose data it has learned from; None if that is nothing."""
        return None if self.private is None else self.private.facts()

    def params(self, obs: Observation) -> Tensor:
        """Distribution parameters (B, P) while learning: with dropout behind every hidden activation."""
        actor, chance = self.actor, self.config.dropout
        if not chance:
            return actor.params(obs)
        scaled = obs if actor.obs_normalizer is None else actor.obs_normalizer(obs)
        features: Tensor = actor.get_submodule("encoder")(scaled)
        for layer in actor.get_submodule("pi").children():
            features = layer(features)
            if isinstance(layer, tuple(ACTIVATIONS.values())):
                kept = torch.rand(features.shape, device=features.device, generator=self.rng) >= chance
                features = features * kept / (1.0 - chance)
        return mask_logits(actor.get_submodule("action_head")(features), obs)

    @torch.no_grad()
    def validate(self) -> dict[str, float]:
        """The loss and the agreement on the held-out episodes, without dropout and smoothing."""
        sums = torch.zeros(2, dtype=torch.float64)
        for steps in chunks(self.held_out):
            raw = self.distribution.from_env(self.view.action(steps))
            params = self.actor.params(self.view.obs(steps))
            each = cloning_loss(self.distribution, params, raw), agreement(self.distribution, params, raw)
            sums += torch.stack([row.to("cpu", torch.float64).sum() for row in each])
        loss, measure = (sums / len(self.held_out)).tolist()
        if loss < self.best_loss:
            self.best_loss, self.waited = loss, 0
            self.best = self.optimizer.flat.detach().clone()
        else:
            self.waited += 1
        self.finished = bool(self.config.patience) and self.waited >= self.config.patience
        return {"val/loss": loss, f"val/{self.measure}": measure, "val/best_loss": self.best_loss}

    def conclude(self) -> None:
        """Goes back to the policy with the lowest loss on the held-out episodes, if it was asked to stop by that."""
        if self.config.patience and self.best_loss < float("inf"):
            self.optimizer.flat.data.copy_(self.best)

    def training_state(self) -> dict[str, Any]:
        """Optimizer, generator, place in the data, counters and the best policy."""
        return {
            "optimizer": self.optimizer.state_dict(),
            "rng": generator_state(self.rng),
            "data": self.batches.state_dict(),
            "n_updates": self.n_updates,
            "best": self.best,
            "best_loss": self.best_loss,
            "waited": self.waited,
            "finished": self.finished,
            **({} if self.private is None else {"private": self.private.state_dict()}),
        }

    def load_training_state(self, state: dict[str, Any]) -> None:
        """Puts back what :meth:`training_state` gave."""
        self.optimizer.load_state_dict(state["optimizer"])
        set_generator_state(self.rng, state["rng"])
        self.batches.load_state_dict(state["data"])
        self.best.copy_(state["best"])
        for name in ("n_updates", "best_loss", "waited", "finished"):
            setattr(self, name, state[name])
        if self.private is not None:
            self.private.load_state_dict(state["private"])
