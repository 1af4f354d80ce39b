"""Loads a trained policy from a run folder. It acts without an environment."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any

import torch
from gymnasium import spaces
from torch import Tensor

from rltrain.agent import Agent
from rltrain.config import EnvConfig, TrainConfig
from rltrain.devices import pick_device
from rltrain.env import EnvClass
from rltrain.errors import ConfigError
from rltrain.evaluation.episodes import Evaluation, most_envs, run_episodes
from rltrain.evaluation.limits import Limits, make_limited
from rltrain.evaluation.video import film
from rltrain.make import make_vec, taken_apart
from rltrain.naming.arguments import typed
from rltrain.registry import agent_class, spec_of
from rltrain.rng import derive_seed, make_generator
from rltrain.runs.environment import check_known, given_again, named_env, origin_in
from rltrain.runs.folder import RunFolder
from rltrain.runs.layout import POLICY, step_of
from rltrain.runs.restore import check_size, read_policy, restore_policy
from rltrain.runs.translation import Translation
from rltrain.runs.verify import read_manifest
from rltrain.spaces import first_unlike, from_json
from rltrain.vec import VecEnv, check_count
from rltrain.wrappers import scale_of

CHANGING = ("atari", "grayscale", "resize", "frame_stack", "time_aware")
"""Options around an environment that change what is observed."""


class Policy:
    """A trained policy, ready to act.

    Attributes:
        agent: The agent; ``agent.actor`` acts on tensors, such as those from the environments of :meth:`make_vec`.
        config: The configuration of its run.
        step: Environment steps it was trained for.
        digest: SHA-256 of the file with its parameters in the checkpoint.
        observation_space: Space of a single observation as the agent sees it.
        action_space: Space of a single action as the agent gives it.
        translation: Converts between those spaces and the environment's own, which :meth:`predict` uses.
        warnings: A line for each damaged checkpoint that was passed over.
    """

    def __init__(
        self,
        agent: Agent,
        config: TrainConfig,
        step: int,
        translation: Translation,
        device: torch.device,
        env: str | EnvClass,
        warnings: list[str],
        origin: str = "",
        digest: str = "",
    ) -> None:
        self.agent = agent
        self.config = config
        self.step = step
        self.digest = digest
        self.observation_space = agent.observation_space
        self.action_space = agent.action_space
        self.translation = translation
        self.device = device
        self.warnings = warnings
        self._env = env
        self._origin = origin  # module:Id, to name it after --env

    @torch.no_grad()
    def predict(
        self,
        obs: Any,
        state: Any = None,
        episode_start: Any = None,
        deterministic: bool = True,
    ) -> tuple[Any, Any]:
        """The action for an observation, with the signature of Stable-Baselines3.

        Observations and actions are of the environment's own spaces: what ``env.reset()`` and ``env.step()`` give goes
        in, and what comes out goes into ``env.step()``. Options of the run that change observations, such as
        ``frame_stack``, are the caller's to apply; ``rescale_action`` is applied here.

        Args:
            obs: One observation, or a batch of N as Gymnasium's vector environments give it: arrays, tensors, numbers
                or lists, in dicts and tuples as the space has them.
            state: Recurrent state from the previous call; None at the start.
            episode_start: (N,) bool, true where an episode begins: its recurrent state is reset.
            deterministic: Whether to take the most likely action rather than a sample.

        Returns:
            The action, and the recurrent state as a tree of tensors (N, ...), None for agents without memory. For one
            observation the action of a Discrete space is an ``int``, any other an array of the space's type and shape;
            for a batch it is an array with N rows. Where a tensor was given it is a tensor.

        Raises:
            InputError: ``obs`` has other shapes than the environment's observations, a part of it is missing, or it is
                not finite.
        """
        batch = self.translation.to_agent(obs)
        if episode_start is not None:
            episode_start = torch.as_tensor(episode_start, dtype=torch.bool, device=self.device).reshape(batch.rows)
        out = self.agent.actor(batch.obs, state, episode_start, deterministic=deterministic)
        return self.translation.to_env(out.action, single=batch.single, as_tensor=batch.as_tensor), out.state

    def in_env(self, env: str | EnvClass) -> Policy:
        """The same policy, to be evaluated and filmed in another environment with the same spaces.

        Raises:
            ConfigError: There is no such environment.
        """
        spec_of(taken_apart(env)[0])
        mine = self.config.env
        kept = EnvConfig(id=mine.id, rescale_action=mine.rescale_action, action_masks=mine.action_masks)
        config = self.config.model_copy(update={"env": kept})
        return Policy(
            self.agent, config, self.step, self.translation, self.device, env, self.warnings, digest=self.digest
        )

    @typed("num_envs")
    def make_vec(self, num_envs: int, **kwargs: Any) -> VecEnv:
        """Makes environments like those that the policy was trained in.

        Args:
            num_envs: Number of environments.
            **kwargs: Constructor arguments and options other than those of training, such as ``split="test"``.

        Raises:
            ConfigError: They are not registered here, or have other spaces.
        """
        vec = make_vec(self.env, num_envs, device=self.device, **{**self.config.env.make_options(), **kwargs})
        mine, its = (self.observation_space, self.action_space), (vec.single_observation_space, vec.single_action_space)
        if (unlike := first_unlike(mine, its)) is not None:
            vec.close()
            name, trained, other = unlike
            raise ConfigError(
                f"The environment's {name} are {other}, those of the policy {trained}.",
                "Give constructor arguments that leave the spaces as they were in training.",
            )
        return vec

    @property
    def env(self) -> str | EnvClass:
        """The environment that it was trained in, if that can be imported."""
        check_known(self._env, self._origin)
        return self._env

    @typed("episodes", "seed")
    def evaluate(
        self,
        episodes: int = 100,
        *,
        deterministic: bool = True,
        seed: int = 0,
        limits: Limits | None = None,
        **env_kwargs: Any,
    ) -> Evaluation:
        """Plays fresh episodes; ``env_kwargs`` as in :meth:`make_vec`.

        Args:
            episodes: Number of episodes.
            deterministic: Whether to take the most likely action rather than a sample.
            seed: Seed of the episodes.
            limits: How long it may last; by default as long as it takes, and 27,000 steps in an episode of an
                environment without a time limit.
            **env_kwargs: Constructor arguments and options of the environment.

        Raises:
            ConfigError: ``episodes`` is below 1, or ``seed`` below 0.
        """
        check_count("episodes", episodes)
        check_count("seed", seed, 0)
        seed = derive_seed(seed, "fresh")
        limits = limits or Limits(seconds=None)
        make = partial(self.make_vec, min(episodes, most_envs(self.env)), **env_kwargs)
        with closing(make_limited(make, limits)) as env:
            actor = self.agent.actor
            return run_episodes(actor, env, episodes, deterministic=deterministic, seed=seed, limits=limits)

    @typed("episodes", "seed")
    def film(
        self,
        out: str | Path,
        *,
        deterministic: bool = True,
        seed: int = 0,
        episodes: int = 1,
        max_steps: int | None = None,
        captions: bool = True,
        limits: Limits | None = None,
        **env_kwargs: Any,
    ) -> int:
        """Writes a GIF or MP4 of episodes and returns its number of steps.

        Args:
            out: The file.
            deterministic: Whether to take the most likely action rather than a sample.
            seed: Seed of the first episode, from which those of further ones follow.
            episodes: Number of episodes.
            max_steps: Steps after which an episode is left; 2,000 where the environment has no time limit.
            captions: Whether to write the step and the return below the pictures.
            limits: How many seconds it may last; by default as many as it takes.
            **env_kwargs: As in :meth:`make_vec`.

        Raises:
            ConfigError: The path ends otherwise, or cannot be written, or a number is too small.
        """
        check_count("episodes", episodes)
        check_count("seed", seed, 0)
        if max_steps is not None:
            check_count("max_steps", max_steps)
        options: dict[str, Any] = {"episodes": episodes, "max_steps": max_steps, "captions": captions, "limits": limits}
        rng = make_generator(self.device, derive_seed(seed, "actions"))
        with closing(self.make_vec(1, render=True, **env_kwargs)) as env:
            actor, seed = self.agent.actor, derive_seed(seed, "film")
            return film(env, Path(out), actor, seed=seed, deterministic=deterministic, rng=rng, **options)


@typed("run", "env", "device")
def load(
    run: str | Path,
    *,
    checkpoint: str | int = "latest",
    device: str = "cpu",
    env: str | EnvClass | None = None,
    env_kwargs: Mapping[str, Any] | None = None,
    classes: Sequence[type] = (),
) -> Policy:
    """Loads the policy of a run. Nothing is unpickled, and no code that the folder names is run.

    Args:
        run: A run folder, or a checkpoint directory in it.
        checkpoint: ``latest``, ``best``, or a step.
        device: The device it acts on; see :func:`~rltrain.devices.pick_device`.
        env: The environment that it was trained in, if the id in the folder is not registered: ``module:Id``, which is
            imported, or the class.
        env_kwargs: Constructor arguments of the environment that the folder could not hold, or others than its own.
        classes: Your own network classes that it was trained with: the folder holds only their names.

    Raises:
        CheckpointError: There is no such run or checkpoint, or it is damaged.
        ConfigError: Its configuration does not fit this version, or there is no such device.
    """
    where = pick_device(device)
    folder, named = RunFolder.open(run)
    config = given_again(folder.config(classes), env_kwargs, only_lost=False)
    env = named_env(folder, config.env.id, env)
    metadata = folder.metadata()
    observation_space = from_json(metadata["observation_space"])
    action_space = from_json(metadata["action_space"])
    path, warnings, (state, digest) = folder.read(named or checkpoint, _learned)
    make, seen = agent_class(config.algo), (observation_space, action_space)
    check_size(make, seen, config.num_envs, config.agent, path)
    agent = make(*seen, config.num_envs, config.agent, device=where, seed=config.seed)
    restore_policy(agent, path, state)
    translation = _translation(config, metadata, seen, where)
    return Policy(agent, config, step_of(path), translation, where, env, warnings, origin_in(folder), digest)


def _learned(checkpoint: Path) -> tuple[dict[str, Tensor], str]:
    """The learned tensors of a checkpoint, and the SHA-256 of the file with those of the policy."""
    return read_policy(checkpoint), str(read_manifest(checkpoint)["files"][POLICY]["sha256"])


def _translation(
    config: TrainConfig, metadata: dict[str, Any], seen: tuple[spaces.Space, spaces.Space], device: torch.device
) -> Translation:
    """The translation by the metadata; for older runs, whose metadata lack it, it converts only types."""
    names = "env_observation_space", "env_action_space"
    told = all(name in metadata for name in names)
    own = (from_json(metadata[names[0]]), from_json(metadata[names[1]])) if told else seen
    given = config.env.model_dump(include=set(CHANGING))
    changed = {name: value for name, value in given.items() if value is True or value not in (None, False, 1)}
    options = ", ".join(f"{name}={changed[name]}" for name in CHANGING if name in changed)
    scale = scale_of(own[1], config.env.rescale_action) if told else None
    return Translation(own, seen, device, scale=scale, options=options)
