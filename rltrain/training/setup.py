"""Sets up a run: makes its environments and agent on their device, and checks them before anything is written."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from rltrain.agent import Agent
from rltrain.compile import check_compiler
from rltrain.config import AgentConfig, RankShare, TrainConfig
from rltrain.cost.meter import Meter, check_cost
from rltrain.data.dataset import Dataset
from rltrain.devices import pick_device, processor_of
from rltrain.distributed.ranks import ALONE, Ranks
from rltrain.env import TensorEnv
from rltrain.errors import ConfigError, RunError, did_you_mean
from rltrain.evaluation.episodes import most_envs
from rltrain.make import make_vec
from rltrain.naming.environments import origin_of
from rltrain.normalize import across_ranks
from rltrain.plugins import resolve
from rltrain.registry import AgentSpec
from rltrain.rng import derive_seed, global_kept, make_generator, seed_global
from rltrain.runs.environment import ORIGIN
from rltrain.runs.folder import RunFolder
from rltrain.runs.lineage import DATASET
from rltrain.runs.machine import describe_machine
from rltrain.runs.restore import check_size
from rltrain.spaces import to_json
from rltrain.training.advice import check_memory, remark
from rltrain.training.callback_list import CallbackList
from rltrain.training.datasets import open_data
from rltrain.training.learned_reward import check_reward_model, reward_lineage, with_learned_reward
from rltrain.training.origins import inherited
from rltrain.training.request import RunRequest
from rltrain.training.transfer import add_teacher, scale_steps
from rltrain.vec import VecEnv, goals_of, own_spaces

AT_ONCE = "seeds at once"  # the entry of the mode for the size of the batch that a run was started in


@dataclass(frozen=True)
class Setup:
    """The environments, agent and ranks of a run, all checked before anything is written."""

    request: RunRequest
    device: torch.device
    env: VecEnv
    agent: Agent
    callbacks: CallbackList
    meter: Meter
    ranks: Ranks = ALONE
    dataset: Dataset | None = None

    @classmethod
    def build(cls, request: RunRequest, ranks: Ranks = ALONE) -> Setup:
        """Makes everything that a request names.

        Args:
            request: The request.
            ranks: The ranks that train together; each makes its share.

        Raises:
            ConfigError: Something in the request does not exist or does not work.
        """
        config = request.config
        check_cost(config.cost, config.max_cost)
        machines = ranks.world_size / ranks.local_world_size / request.num_seeds
        callbacks = CallbackList(request.callbacks)
        callbacks.setup(config)
        resolve(request.agent.trainer).check_callbacks(config.algo, callbacks)
        if ranks.world_size > 1 and request.agent.trainer != AgentSpec.trainer:  # it has its own training loop
            raise ConfigError(
                f"'{config.algo}' trains in one process alone, and there are {ranks.world_size}.",
                "Start one, with --nproc 1.",
            )
        dataset = open_data(request)
        check_reward_model(request)
        num_envs, agent_config = share_of(config, ranks)
        seed = ranks.seed(config.seed)
        seed_global(derive_seed(seed, "global"))
        device = pick_device(ranks.device(config.device))
        more: dict[str, Any] = {"log_info": config.log_info} if config.log_info else {}
        env = make_vec(request.env, num_envs, device=device, **config.env.make_options(), **more)
        if lost := getattr(env, "left_out", ()):
            names = " and ".join(f"'{name}'" for name in lost)
            warnings.warn(f"{names} of the observations is text, and left out.", stacklevel=2)
        with ExitStack() as if_it_fails:
            meter = Meter(config.cost, machines, reads_energy=ranks.first)
            if_it_fails.callback(meter.close)
            if_it_fails.callback(env.close)
            env = with_learned_reward(env, config)
            make_agent = resolve(request.agent.entry_point)
            if request.checkpoint is not None:
                seen = env.single_observation_space, env.single_action_space
                check_size(make_agent, seen, num_envs, agent_config, request.checkpoint)
            agent = make_agent(
                env.single_observation_space,
                env.single_action_space,
                num_envs,
                agent_config,
                device=device,
                seed=seed,
            )
            if getattr(agent_config, "n_sampled_goal", 0):
                agent.use_goals(goals_of(env))
            if request.checkpoint is None:
                agent.check()
            if dataset is not None:
                agent.use_data(dataset)
            if request.checkpoint is None and not request.agent.learns_from_data:
                remark(config, env, agent.horizon * num_envs * ranks.world_size)
            several = ranks.local_world_size if device.type == "cpu" else 1
            check_memory(agent.memory() * several, device, agent_config, env.single_observation_space)
            if ranks.world_size > 1:
                across_ranks(agent, ranks.mean, ranks.world_size)
            scale_steps(agent, config)
            add_teacher(agent, config)
            speed_up(config, env, agent)
            check_info(config.log_info, env)
            setup = cls(request, device, env, agent, callbacks, meter, ranks, dataset)
            if config.video_freq:
                setup.check_drawing()
            if_it_fails.pop_all()
        return setup

    @property
    def config(self) -> TrainConfig:
        """The configuration."""
        return self.request.config

    def close(self) -> None:
        """Closes the environments, and ends the reading of the energy."""
        self.env.close()
        self.meter.close()

    @global_kept()
    def check_drawing(self) -> None:
        """Draws a state once, so that an error is raised now rather than at the first video."""
        with closing(self.make_env(1, render=True)) as env:
            env.reset(seed=0)
            env.render()

    @property
    def mode(self) -> dict[str, Any]:
        """The facts that must be equal for an exact resume."""
        several = {"ranks": self.ranks.world_size} if self.ranks.world_size > 1 else {}
        options = {name: True for name in ("compile", "bfloat16") if getattr(self.config, name)}
        processor = {"processor": processor_of(self.device)}
        return {"device": str(self.device), "threads": torch.get_num_threads(), **processor, **options, **several}

    @property
    def exact_resume(self) -> bool:
        """Whether a checkpoint holds everything that is needed to continue bit for bit."""
        return self.exact_data and self.agent.exact_resume

    @property
    def exact_data(self) -> bool:
        """Whether what the agent learns from goes on exactly."""
        return self.request.agent.learns_from_data or self.env.exact_resume

    @property
    def spaces(self) -> dict[str, Any]:
        """The spaces of a single environment, as plain data."""
        return {
            "observation_space": to_json(self.env.single_observation_space),
            "action_space": to_json(self.env.single_action_space),
        }

    @property
    def own_spaces(self) -> dict[str, Any]:
        """The spaces of the environment before an adapter converts them to tensors, as plain data."""
        names = "env_observation_space", "env_action_space"
        return {name: to_json(space) for name, space in zip(names, own_spaces(self.env), strict=True)}

    def make_env(self, at_most: int, *, render: bool = False, **others: Any) -> VecEnv:
        """Makes more environments of the same kind; with ``render`` they can be drawn.

        Args:
            at_most: The most to make; fewer where each is an object of its own.
            render: Whether to draw them.
            **others: Options other than those of training, such as ``max_episode_steps``.
        """
        num_envs = min(at_most, most_envs(self.request.env))
        options = {**self.config.env.make_options(), **others}
        return make_vec(self.request.env, num_envs, device=self.device, render=render, **options)


def create_folder(setup: Setup) -> RunFolder:
    """Makes the run folder, and locks it.

    Args:
        setup: The setup of the run.

    Raises:
        ConfigError: The folder cannot be made.
        RunError: Some ranks cannot see it.
    """
    config, ranks, together = setup.config, setup.ranks, setup.request.num_seeds
    record = {
        **describe_machine(),
        "mode": {**setup.mode, **({AT_ONCE: together} if together > 1 else {})},
        "seed": config.seed,
        "total_timesteps": config.total_timesteps,
        "stop_at_reward": config.stop_at_reward,
        "exact_resume": setup.exact_resume,
        **({DATASET: setup.dataset.lineage()} if setup.dataset is not None else {}),
        **reward_lineage(config),
        **inherited(config),
        **({ORIGIN: origin} if (origin := origin_of(setup.request.env)) else {}),
        **setup.spaces,
        **setup.own_spaces,
    }
    folder = RunFolder.create(config, record) if ranks.first else None
    path = Path(ranks.broadcast_object(str(folder.path.absolute()) if folder is not None else None))
    if not path.is_dir():
        raise RunError(
            f"Rank {ranks.rank} does not see the run folder '{path}'.",
            "Give a --run-dir on a file system that all machines share.",
        )
    return folder or RunFolder(path, writes=False)


@global_kept()
def check_info(names: Sequence[str], env: VecEnv) -> None:
    """Checks that an environment of tensors has what is wanted of its info.

    Raises:
        ConfigError: It has not.
    """
    made = getattr(env, "env", None)
    if not names or not isinstance(made, TensorEnv):
        return
    known = list(made.info(made.reset(2, make_generator(env.device, 0))))
    for name in names:
        if name not in known:
            fix = f"It has: {', '.join(known)}." if known else "Its info is empty; write info(state) to fill it."
            raise ConfigError(f"The info of '{type(made).__name__}' has no '{name}'.", did_you_mean(name, known, fix))


def share_of(config: TrainConfig, ranks: Ranks) -> tuple[int, AgentConfig]:
    """The number of environments and the hyperparameters of one rank, given those of all ranks together.

    Raises:
        ConfigError: They cannot be divided.
    """
    if ranks.world_size == 1:
        return config.num_envs, config.agent
    if ranks.world_size > config.num_envs:
        raise ConfigError(
            f"There are {ranks.world_size} ranks for num_envs={config.num_envs}.",
            "Start fewer, or give more --num-envs.",
        )
    multiple = f"Give a multiple of {ranks.world_size}:"
    shares = {}
    for name, share in config.agent.rank_shares():
        number = getattr(config.agent, name)
        if not number:  # nothing to share
            continue
        if share is RankShare.EQUAL:
            shares[name] = ranks.share(name, number, f"{multiple} --agent.{name.replace('_', '-')}.")
        else:
            shares[name] = max(1, number // ranks.world_size)
    return ranks.share("num_envs", config.num_envs, f"{multiple} --num-envs."), config.agent.model_copy(update=shares)


def speed_up(config: TrainConfig, env: VecEnv, agent: Agent) -> None:
    """Applies the options ``bfloat16`` and ``compile``.

    Raises:
        ConfigError: They are not supported here.
    """
    if not (config.bfloat16 or config.compile):
        return
    if not isinstance(agent, Agent):
        name = "--compile" if config.compile else "--bfloat16"
        raise ConfigError(
            f"'{config.algo}' learns in a loop of its own, which {name} does not reach.", f"Leave {name} out."
        )
    if config.bfloat16:
        agent.use_bfloat16()
    if config.compile:
        check_compiler(agent.device)
        agent.compile()
        if hasattr(env, "compile"):
            env.compile()
        else:
            warnings.warn(f"Only the agent is compiled: '{config.env.id}' is not made of tensors.", stacklevel=2)


@contextmanager
def threads(number: int | None) -> Iterator[None]:
    """Sets the number of threads of torch, and restores the old one at the end."""
    before = torch.get_num_threads()
    torch.set_num_threads(number or before)
    try:
        yield
    finally:
        torch.set_num_threads(before)
