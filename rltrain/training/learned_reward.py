"""The reward model that a run is trained with, in place of the environment's reward."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from rltrain.config import TrainConfig
from rltrain.errors import CheckpointError, ConfigError
from rltrain.registry import AgentSpec
from rltrain.rewards.files import find_reward, load_reward, read_facts
from rltrain.rewards.wrapper import LEARNED, TRUE, LearnedReward
from rltrain.runs.lineage import REWARD_MODEL
from rltrain.training.request import RunRequest
from rltrain.vec import VecEnv


def check_reward_model(request: RunRequest) -> None:
    """Checks that a run can be trained with the reward model that it names, if it names one.

    Raises:
        ConfigError: Its agent does not learn from the rewards of these environments.
    """
    config = request.config
    if config.reward_model is None:
        return
    if request.agent.learns_from_data:
        raise ConfigError(
            f"'{config.algo}' learns from a dataset, and its rewards.", "Leave --reward-model out, or train ppo or sac."
        )
    if request.agent.trainer != AgentSpec.trainer:
        raise ConfigError(
            f"'{config.algo}' steps its environments by itself, which --reward-model does not reach.",
            "Leave --reward-model out, or train ppo, sac or dqn.",
        )
    if getattr(config.agent, "n_sampled_goal", 0):
        raise ConfigError(
            "Goals in hindsight have the environment's rewards, not those of a model.",
            "Give --agent.n-sampled-goal 0, or leave --reward-model out.",
        )


def with_fixed_model(request: RunRequest) -> RunRequest:
    """The request with the folder of the reward model itself, where that of the preferences was named.

    Raises:
        CheckpointError: There is no model.
    """
    if request.config.reward_model is None:
        return request
    path = find_reward(Path(request.config.reward_model))
    return replace(request, config=request.config.model_copy(update={"reward_model": str(path)}))


def with_learned_reward(env: VecEnv, config: TrainConfig) -> VecEnv:
    """The environments with the reward of the model that a run names; as they are if it names none.

    Raises:
        CheckpointError: The model cannot be read.
        ConfigError: It is of other spaces.
    """
    if config.reward_model is None:
        return env
    model, _ = load_reward(Path(config.reward_model), env.device)
    return LearnedReward(env, model)


def logged_infos(config: TrainConfig) -> list[str]:
    """The names in ``info`` whose means are logged; with a reward model, also its reward and the true one."""
    return [*config.log_info, *((LEARNED, TRUE) if config.reward_model is not None else ())]


def reward_lineage(config: TrainConfig) -> dict[str, Any]:
    """What a run that learns from a reward model records of it, as an entry of its metadata; empty without one."""
    if config.reward_model is None:
        return {}
    facts = read_facts(Path(config.reward_model))
    known = {name: facts[name] for name in ("checksum", "labels", "datasets") if name in facts}
    return {REWARD_MODEL: {"path": config.reward_model, **known}}


def check_same_reward(config: TrainConfig, metadata: Mapping[str, Any], run: Path) -> None:
    """Checks that the reward model of a run that goes on is the one that it was trained with.

    Raises:
        CheckpointError: It is another one, or is not there any more.
    """
    if config.reward_model is None:
        return
    if read_facts(Path(config.reward_model))["checksum"] != (metadata.get(REWARD_MODEL) or {}).get("checksum"):
        raise CheckpointError(
            f"'{config.reward_model}' is another reward model than the one that '{run}' was trained with.",
            "Start a new run with it; to go on with this one, put the model of then in its place.",
        )
