"""Imports policies that Stable-Baselines3 trained, as a run folder or as the start of a run. No pickle is opened."""

from __future__ import annotations

import warnings
from contextlib import closing
from pathlib import Path
from typing import Any

from torch import Tensor

from rltrain.agent import ACTOR, Agent
from rltrain.errors import CheckpointError, ConfigError
from rltrain.plugins import resolve
from rltrain.registry import agent_config_class, agent_specs
from rltrain.runs.fitting import fit
from rltrain.sb3.archive import Archive
from rltrain.sb3.translate import NOT_POLICY, OBS, from_sb3, net_arch_of
from rltrain.settings import build_config
from rltrain.training.request import RunRequest
from rltrain.training.setup import Setup, create_folder

OWN = {"PPO": "ppo", "DQN": "dqn", "SAC": "sac"}
"""Algorithms that rltrain has itself; every other one continues as its ``sb3/...``."""
OUTSIDE = {"rescale_action": False, "action_masks": False}
"""Options of the environment with which a policy acts as it did in Stable-Baselines3."""


def import_sb3(
    file: str | Path,
    env: str,
    *,
    algo: str | None = None,
    run_dir: str = "runs",
    env_kwargs: dict[str, Any] | None = None,
) -> Path:
    """Makes a run folder of a zip, which ``eval``, ``watch`` and ``resume`` understand.

    Args:
        file: The zip that ``model.save(...)`` wrote.
        env: The environment it was trained in; the file does not say.
        algo: ``ppo`` for our own PPO or ``sb3/ppo`` for the original; by default ours, if there is one.
        run_dir: Folder in which the run folder is created.
        env_kwargs: Constructor arguments of the environment.

    Returns:
        The run folder.

    Raises:
        ConfigError: It does not fit the environment or the algorithm.
        CheckpointError: It cannot be read, or has networks that the algorithm does not.
    """
    archive = Archive.read(file)
    settings = run_settings(archive, algo)
    overrides = {**settings, "run_dir": str(run_dir), "env": {**OUTSIDE, "kwargs": env_kwargs or {}}}
    config, _ = build_config(settings.pop("algo"), env, overrides, base=({}, "the file"))
    with closing(Setup.build(request := RunRequest(config))) as setup:
        load_into(setup.agent, archive, algo=config.algo, env_id=config.env.id)
        if config.algo.startswith("sb3/"):
            optimizers = {name: module for name, module in archive.modules.items() if name != "policy"}
            setup.agent.load_optimizers(optimizers, archive.variables)  # type: ignore[operator]
        folder = create_folder(setup)
        try:
            trainer = resolve(request.agent.trainer)(setup, folder)
            trainer.global_step = steps = int(archive.data.get("num_timesteps") or 0)
            state = setup.agent.training_state()
            if "steps" in state:  # an agent that counts its steps: it continues from here, with an empty buffer
                setup.agent.load_training_state({**state, "steps": steps, "first_step": steps})
            trainer.save()
            over = trainer.global_step >= config.total_timesteps
            folder.update_metadata(
                {
                    "status": "completed" if over else "interrupted",
                    "steps": trainer.global_step,
                    "seconds": 0.0,
                    "stopped_by": "total_timesteps" if over else "interrupted",
                    "imported": str(archive.path),
                }
            )
        finally:
            folder.release()
    return folder.path


def run_settings(archive: Archive, algo: str | None) -> dict[str, Any]:
    """The configuration in a zip; warns about settings that only its pickles have.

    Raises:
        ConfigError: It is another algorithm.
    """
    name = archive.algorithm
    own, theirs = OWN.get(name), f"sb3/{name.lower()}"
    own = own if own in agent_specs() else None
    algo = algo or own or theirs
    if algo not in (own, theirs):
        fits = " or ".join(filter(None, (own, theirs)))
        raise ConfigError(f"'{archive.path}' is a policy of {name}, not of '{algo}'.", f"Use --algo {fits}.")
    agent, lost = archive.settings(agent_config_class(algo))
    known = agent_config_class(algo).model_fields["policy_kwargs"].annotation.model_fields  # type: ignore[union-attr]
    kwargs = {key: value for key, value in archive.policy_kwargs().items() if key in known}  # the networks must fit
    agent["policy_kwargs"] = kwargs
    if algo == own:
        if archive.data.get("use_sde") and "use_sde" not in agent_config_class(algo).model_fields:
            raise ConfigError(f"Our {own} has no gSDE (use_sde).", f"Use --algo {theirs}.")
        if archive.policy_kwargs().get("share_features_extractor") and own == "sac":
            raise ConfigError(f"Our {own} has no share_features_extractor.", f"Use --algo {theirs}.")
        kwargs["net_arch"] = net_arch_of(own, archive.modules["policy"])
    if lost:
        warnings.warn(f"Only a pickle in the file knows {', '.join(lost)}: the defaults stand in.", stacklevel=2)
    if "clip_range" in archive.data and archive.data.get("_last_original_obs") is not None:
        warnings.warn(
            "It learned behind a VecNormalize, whose statistics are in a pickle that is not read: it will see "
            "observations as they are.",
            stacklevel=2,
        )
    steps = [int(archive.data.get(name) or 0) for name in ("num_timesteps", "_total_timesteps")]
    return {
        "algo": algo,
        "agent": agent,
        "num_envs": int(archive.data.get("n_envs") or 1),
        "total_timesteps": max(1, *steps),
        "seed": int(archive.data.get("seed") or 0),
    }


def load_policy(agent: Agent, path: str, *, algo: str, env_id: str) -> None:
    """Starts an agent from what fits of the policy in a zip.

    Args:
        agent: The agent.
        path: The zip.
        algo: The name that the agent is registered under.
        env_id: The environment it acts in; it may have other spaces.

    Raises:
        CheckpointError: It is the policy of another algorithm, or nothing of it fits.
    """
    archive = Archive.read(path)
    fit(agent, policy_state(archive, agent, algo), path)


def load_into(agent: Agent, archive: Archive, *, algo: str, env_id: str) -> None:
    """Puts the policy of a zip into an agent.

    Args:
        agent: The agent.
        archive: The zip.
        algo: The name that the agent is registered under.
        env_id: The environment it acts in, for the error.

    Raises:
        ConfigError: It was trained with other spaces.
        CheckpointError: It is the policy of another algorithm, or its networks differ.
    """
    check_spaces(archive, agent, env_id)
    take_over(archive, agent, algo)


def check_spaces(archive: Archive, agent: Agent, env_id: str) -> None:
    """Compares the spaces described in the file with those of the environment.

    Raises:
        ConfigError: They differ.
    """
    for name, space in (
        ("observation_space", agent.observation_space),
        ("action_space", agent.action_space),
    ):
        said = archive.data.get(name)
        if not isinstance(said, dict):
            continue
        kind = str(said.get(":type:", "")).rpartition(".")[2].strip("'>")
        mine = getattr(space, "n", None) or list(space.shape or ())
        size = said.get("n") or said.get("_shape") or []
        same = str(size) == str(mine) or (isinstance(size, list) and len(size) == 3 and sorted(size) == sorted(mine))
        if (kind and kind != type(space).__name__) or not same:
            raise ConfigError(
                f"The file's {name} is a {kind} of {size}, that of '{env_id}' is {space}.",
                "Name the environment that it was trained in.",
            )


def take_over(archive: Archive, agent: Agent, algo: str) -> None:
    """Puts the policy of a zip into an agent.

    Raises:
        CheckpointError: It does not fit.
    """
    state = policy_state(archive, agent, algo)
    try:
        agent.load_state_dict(state)
    except (RuntimeError, ValueError) as error:
        reason = str(error).splitlines()[-1].strip()
        raise CheckpointError(
            f"The policy in '{archive.path}' does not fit: {reason}", "Use the networks and normalisation it has."
        ) from error


def policy_state(archive: Archive, agent: Agent, algo: str) -> dict[str, Tensor]:
    """The tensors of the policy in a zip by the names that the agent has for them, and those that no zip has.

    Raises:
        CheckpointError: It is the policy of another algorithm.
    """
    if algo not in (OWN.get(archive.algorithm), f"sb3/{archive.algorithm.lower()}"):
        raise CheckpointError(
            f"'{archive.path}' is a policy of {archive.algorithm}, which '{algo}' cannot start from.",
            f"Train sb3/{archive.algorithm.lower()}.",
        )
    policy = archive.modules["policy"]
    mine = agent.state_dict()
    kept = {name: tensor for name, tensor in mine.items() if name.startswith((*NOT_POLICY, ACTOR + OBS))}
    theirs = {ACTOR + name: tensor for name, tensor in policy.items()}
    state: dict[str, Tensor] = {**kept, **(theirs if algo.startswith("sb3/") else from_sb3(algo, policy))}
    if "log_ent_coef" in mine:  # there it is no part of the policy
        learned = archive.variables.get("log_ent_coef")
        state["log_ent_coef"] = mine["log_ent_coef"] if learned is None else learned.detach()
    return state
