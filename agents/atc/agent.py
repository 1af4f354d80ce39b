"""Augmented temporal contrast (Stooke et al. 2021, arXiv:2009.08319): which observation follows which."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
import torch
from gymnasium import spaces
from torch import Tensor

from rltrain.agent import Metrics
from rltrain.agents.atc.config import ATCConfig
from rltrain.agents.atc.contrast import Contrast, contrastive_loss, shifted
from rltrain.agents.atc.probe import Probe
from rltrain.agents.parts.actors import make_actor
from rltrain.agents.parts.offline import OfflineAgent, Shuffled, take_in
from rltrain.agents.parts.optim import FlatAdam
from rltrain.agents.parts.targets import TargetNetworks
from rltrain.data.dataset import Dataset
from rltrain.data.split import assign
from rltrain.data.view import AgentView
from rltrain.env import Observation
from rltrain.errors import ConfigError, DatasetError
from rltrain.normalize import ObservationNormalizer, check_scaled
from rltrain.rng import derive_seed, generator_state, make_generator, seeded, set_generator_state
from rltrain.schedules import value_at
from rltrain.spaces import channels_first, entries_of


class ATC(OfflineAgent, TargetNetworks):
    """Learns the layers of a policy from the observations of a dataset, without actions and rewards.

    Where the encoder has weights, as that of pictures has, it alone learns; elsewhere the hidden layers do. The head is
    left as it was made: the policy acts nearly at random, and is there for another agent to start from.

    Args:
        observation_space: Space of a single observation.
        action_space: Space of a single action.
        num_envs: N; not used.
        config: Hyperparameters.
        device: Where everything lives.
        seed: Seed of the initial weights, the held-out episodes, the order of the data and the shifts.

    Raises:
        ConfigError: No network or distribution fits one of the spaces, or no layer could learn.
    """

    config: ATCConfig
    descriptions: ClassVar[dict[str, str]] = {
        "train/loss": "Cross-entropy of finding the observation that follows among all of a minibatch.",
        "train/accuracy": "How often the observation that follows is the likeliest of a minibatch.",
        "probe/action_accuracy": "Share of the held-out actions that a linear function of the features finds.",
        "probe/action_r2": "Share of the variance of held-out actions that a linear function of the features explains.",
        "probe/return_r2": "Share of the variance of held-out returns that a linear function of the features explains.",
    }

    def __init__(
        self,
        observation_space: spaces.Space,
        action_space: spaces.Space,
        num_envs: int,
        config: ATCConfig,
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
            layers, size = {"encoder": actor.get_submodule("encoder")}, int(actor.get_submodule("encoder").size)  # type: ignore[arg-type]
            if not list(layers["encoder"].parameters()):
                layers["pi"] = actor.get_submodule("pi")
                size = int(actor.get_submodule("action_head").in_features)  # type: ignore[arg-type]
            self._check_layers(layers)
            contrast = Contrast(layers, size, config.latent_size)
        self.actor = actor.to(self.device)
        self.obs_normalizer = normalizer
        self.contrast = contrast.to(self.device)
        self.optimizer = FlatAdam(self.contrast.parameters(), eps=1e-8, max_grad_norm=config.max_grad_norm)
        self.slow = self.make_target(self.contrast, self.optimizer)
        pictures = [part for part in entries_of(observation_space).values() if len(part.shape or ()) == 3]
        self.pictures, self.first = bool(pictures), bool(pictures) and channels_first(pictures[0].shape or ())
        self.rng = make_generator(self.device, derive_seed(seed, "agent"))
        self.log_interval = 4
        self.n_updates = 0  # gradient steps
        self.probe: Probe | None = None

    @staticmethod
    def _check_layers(layers: dict[str, torch.nn.Module]) -> None:
        """Checks that all of them learn.

        Raises:
            ConfigError: They do not.
        """
        learned = [each.requires_grad for layer in layers.values() for each in layer.parameters()]
        if not learned:
            raise ConfigError("There are no layers to learn: net_arch is empty.", "Give policy_kwargs.net_arch.")
        if not all(learned):
            raise ConfigError("The encoder has weights that do not learn.", "Let all of them require gradients.")

    def check(self) -> None:
        """Refuses options that would have no effect.

        Raises:
            ConfigError: There is one.
        """
        config = self.config
        if config.random_shift and not self.pictures:
            raise ConfigError("random_shift is for pictures, of which there are none.", "Leave it out.")
        if config.val_by is not None and not config.val_fraction:
            raise ConfigError("val_by is for held-out episodes, of which there are none.", "Give --agent.val-fraction.")
        if config.normalize_obs:
            check_scaled(self.observation_space)

    def use_data(self, dataset: Dataset) -> None:
        """Divides the dataset into episodes to learn from and held-out ones; see :class:`OfflineAgent`.

        Raises:
            DatasetError: It does not fit the spaces, or its episodes are too short.
            ConfigError: There are too few episodes to hold some out, or ``val_by`` is not there.
        """
        config = self.config
        self.view = AgentView(dataset, self.observation_space, self.action_space, device=self.device)
        held_out = np.zeros(len(dataset.episodes), bool)
        if config.val_fraction:
            shares = {"train": 1.0 - config.val_fraction, "held-out": config.val_fraction}
            held_out = assign(dataset, shares, by=config.val_by, seed=derive_seed(self.seed, "held-out")) == 1
        steps = dataset.steps_of(np.flatnonzero(~held_out))
        end = np.repeat(dataset.episodes.end, dataset.episodes.length)
        begins = steps[steps + config.steps_ahead < end[steps]]
        if not len(begins):
            what = f"No episode of '{dataset.path}' to learn from has more than {config.steps_ahead} steps."
            raise DatasetError(what, "Give a smaller --agent.steps-ahead, or record longer episodes.")
        self.batches = Shuffled(begins, config.batch_size, derive_seed(self.seed, "data"))
        if self.obs_normalizer is not None and not self.n_updates:
            take_in(self.obs_normalizer, self.view, steps)
        if config.val_fraction:
            seed = derive_seed(self.seed, "probe")
            others = dataset.steps_of(np.flatnonzero(held_out))
            self.probe = Probe(dataset, self.view, steps, others, config.probe_gamma, seed)
            self.untrained = self.probe.measure(self._features)

    def learn(self) -> Metrics:
        """Takes ``gradient_steps`` steps; metrics are means over them. Now and then also probes the features."""
        config, rows = self.config, []
        learning_rate = value_at(config.learning_rate, self.progress_remaining)
        for _ in range(config.gradient_steps):
            steps = next(self.batches)
            with torch.no_grad():
                codes = self.slow.code(self._seen(steps + config.steps_ahead))
            loss, accuracy = contrastive_loss(self.contrast.predicted(self._seen(steps)), codes)
            norm = self.optimizer.step(loss, learning_rate, reduce=self.reduce)
            self._move_targets(1)
            rows.append(torch.stack([loss.detach(), accuracy, norm]))
        self.n_updates += config.gradient_steps
        means = torch.stack(rows).mean(0)
        metrics: Metrics = {"train/loss": means[0], "train/accuracy": means[1], "train/grad_norm": means[2]}
        metrics["train/learning_rate"] = learning_rate
        metrics["train/n_updates"] = self.n_updates
        metrics["train/epochs"] = self.batches.passes
        if self.probe is not None and (self.n_updates // config.gradient_steps) % config.val_freq == 0:
            metrics |= {f"probe/{name}": score for name, score in self.probe.measure(self._features).items()}
            metrics |= {f"probe/untrained_{name}": score for name, score in self.untrained.items()}
        return metrics

    def _seen(self, steps: np.ndarray) -> Observation:
        """The scaled observations of these steps, shifted if that is asked for."""
        obs = self.view.obs(steps)
        if self.config.random_shift:
            obs = shifted(obs, self.config.random_shift, self.rng, first=self.first)
        return obs if self.obs_normalizer is None else self.obs_normalizer(obs)

    def _features(self, obs: Observation) -> Tensor:
        """The features (B, F) of unscaled observations."""
        return self.contrast.features(obs if self.obs_normalizer is None else self.obs_normalizer(obs))

    def training_state(self) -> dict[str, Any]:
        """Optimizer, generator, place in the data and counter."""
        return {
            "optimizer": self.optimizer.state_dict(),
            "rng": generator_state(self.rng),
            "data": self.batches.state_dict(),
            "n_updates": self.n_updates,
        }

    def load_training_state(self, state: dict[str, Any]) -> None:
        """Puts back what :meth:`training_state` gave."""
        self.optimizer.load_state_dict(state["optimizer"])
        set_generator_state(self.rng, state["rng"])
        self.batches.load_state_dict(state["data"])
        self.n_updates = state["n_updates"]
