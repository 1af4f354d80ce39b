"""Exports a policy as a zip that Stable-Baselines3 opens without rltrain, and a ``VecNormalize`` file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from gymnasium import spaces
from stable_baselines3.common.preprocessing import is_image_space_channels_first
from torch import Tensor, nn

from rltrain.agent import ACTOR
from rltrain.errors import ConfigError
from rltrain.runs.folder import RunFolder
from rltrain.runs.layout import step_name
from rltrain.runs.policy import Policy, load
from rltrain.sb3.agent import SB3Agent, agent_class
from rltrain.sb3.arguments import policy_name
from rltrain.sb3.settings import config_class
from rltrain.sb3.translate import apart, moments_to_sb3, to_sb3
from rltrain.spaces import MASK
from rltrain.storage.making import replacing


def export(
    run: str | Path, out: str | Path | None = None, *, checkpoint: str | int = "latest"
) -> tuple[str, list[Path]]:
    """Writes a policy for ``stable_baselines3.PPO.load``.

    Args:
        run: A run folder, or a checkpoint directory in it.
        out: The zip; if None, a file in the run folder, named by its step.
        checkpoint: ``latest``, ``best``, or a step.

    Returns:
        The name of the algorithm that loads it, and the files: the zip and, if the run normalises, the file for
        ``VecNormalize.load``.

    Raises:
        ConfigError: Stable-Baselines3 has no such policy, or the file cannot be written.
        CheckpointError: There is no such run or checkpoint.
    """
    policy = load(run, checkpoint=checkpoint)
    folder = RunFolder.open(run)[0]
    path = folder.path / f"sb3_{step_name(policy.step)}.zip" if out is None else Path(out)
    if path.suffix != ".zip":
        raise ConfigError(f"'{path}' does not end with .zip.", "Name a zip file.")
    agent = translated(policy)
    agent.model.num_timesteps, agent.model._total_timesteps = policy.step, policy.config.total_timesteps
    written = [path]
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with replacing(path) as temporary:
            agent.model.save(temporary)
        if agent.normalizer is not None:
            written.append(path.with_name(f"{path.stem}_vecnormalize.pkl"))
            with replacing(written[-1]) as temporary:
                agent.normalizer.save(str(temporary))
    except OSError as error:
        raise ConfigError(f"'{path}' cannot be written: {error.strerror}.", "Choose another --out.") from error
    return type(agent.model).__name__, written


def translated(policy: Policy) -> SB3Agent:
    """The policy as an algorithm of Stable-Baselines3.

    Raises:
        ConfigError: Stable-Baselines3 has no such policy.
    """
    agent: Any = policy.agent
    if isinstance(agent, SB3Agent):
        return agent
    translators = {"ppo": _ppo, "dqn": _dqn, "sac": _sac}
    if policy.config.algo not in translators:
        raise ConfigError(
            f"'{policy.config.algo}' cannot be exported to Stable-Baselines3.", f"Those can: {', '.join(translators)}."
        )
    return translators[policy.config.algo](policy)


def _ppo(policy: Policy) -> SB3Agent:
    agent: Any = policy.agent
    settings = policy.config.agent.model_dump()
    for name in ("squash_output", "network_class", "memory"):
        if settings["policy_kwargs"].pop(name):
            raise _lacks(f"agent.policy_kwargs.{name}")
    del settings["policy_kwargs"]["network_kwargs"], settings["policy_kwargs"]["memory_size"]
    made = _like(policy, "PPO", settings)
    state = agent.state_dict()
    made.keep_statistics(ACTOR + name for name in moments_to_sb3(state))
    made.actor.load_state_dict({**_in_own_bounds(policy, to_sb3("ppo", state, 0)), **moments_to_sb3(state)})
    _copy_reward_statistics(agent, made)
    return made


def _dqn(policy: Policy) -> SB3Agent:
    settings = policy.config.agent.model_dump()
    for name in ("dueling", "distributional", "noisy"):
        if settings[name]:
            raise _lacks(f"agent.{name}")
    if settings["policy_kwargs"].pop("layer_norm"):
        raise _lacks("agent.policy_kwargs.layer_norm")
    made = _like(policy, "DQN", settings)
    made.actor.load_state_dict(to_sb3("dqn", policy.agent.state_dict(), _hidden_layers(policy.agent)))
    return made


def _sac(policy: Policy) -> SB3Agent:
    agent: Any = policy.agent
    settings = policy.config.agent.model_dump()
    if settings["distributional"]:
        raise _lacks("agent.distributional")
    for name in ("layer_norm", "weight_norm"):
        if settings["policy_kwargs"].pop(name):
            raise _lacks(f"agent.policy_kwargs.{name}")
    made = _like(policy, "SAC", settings)
    state = agent.state_dict()
    made.keep_statistics(ACTOR + name for name in moments_to_sb3(state))
    split = apart(state, clip_mean=settings["policy_kwargs"]["clip_mean"] > 0)
    made.actor.load_state_dict({**to_sb3("sac", split, 0), **moments_to_sb3(state)})
    if agent.log_ent_coef is not None:
        made.load_optimizers({}, {"log_ent_coef": state["log_ent_coef"]})
    _copy_reward_statistics(agent, made)
    return made


def _copy_reward_statistics(agent: Any, made: SB3Agent) -> None:
    if agent.reward_normalizer is not None and made.normalizer is not None:
        moments = agent.reward_normalizer.moments
        returns = made.normalizer.ret_rms
        returns.mean, returns.var = moments.mean.cpu().numpy(), moments.var.cpu().numpy()
        returns.count = float(moments.count)


def _in_own_bounds(policy: Policy, state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Parameters whose actions are those of the environment, where the policy's go from -1 to 1."""
    if policy.translation.bounds is None:
        return state
    low, high = (bound.flatten() for bound in policy.translation.bounds)
    half, middle = (high - low) / 2, (high + low) / 2
    return {
        **state,
        "action_net.weight": state["action_net.weight"] * half.unsqueeze(1),
        "action_net.bias": state["action_net.bias"] * half + middle,
        "log_std": state["log_std"] + half.clamp(min=1e-8).log(),
    }


def _hidden_layers(agent: Any) -> int:
    """The number of hidden layers of a network of action values."""
    return sum(isinstance(layer, nn.Linear) for layer in agent.policy.body)


def _like(policy: Policy, name: str, settings: dict[str, Any]) -> SB3Agent:
    """An untrained algorithm of Stable-Baselines3 with the settings of the policy."""
    agent: Any = policy.agent
    extractor = settings["policy_kwargs"].pop("features_extractor_class")
    del settings["policy_kwargs"]["features_extractor_kwargs"]
    if extractor not in ("auto", "flatten"):
        raise _lacks(f"agent.policy_kwargs.features_extractor_class {extractor}")
    channels_last = getattr(getattr(agent, "policy", agent.actor).encoder, "channels_last", None)
    _check_observations(policy.observation_space, extractor, channels_last)
    model = config_class(name)
    config = model.model_validate({key: value for key, value in settings.items() if key in model.model_fields})
    rescaled = policy.translation.bounds is not None
    action_space = policy.translation.actions.space if rescaled else policy.action_space
    made = agent_class(name)(policy.observation_space, action_space, policy.config.num_envs, config)
    if not made.adapted.same:
        raise _lacks("spaces whose names have dots, whose categories do not start at 0, or without dimensions")
    return made


def _check_observations(space: spaces.Space, extractor: str, channels_last: bool | None) -> None:
    """Refuses observations that Stable-Baselines3 would process differently."""
    if isinstance(space, spaces.Dict):
        if MASK in space.spaces:
            raise _lacks(f"the observation's {MASK}")
        for part in space.spaces.values():
            if isinstance(part, spaces.Box) and len(part.shape) == 3:
                raise _lacks(f"agent.policy_kwargs.features_extractor_class {extractor} for images in a Dict")
    if not isinstance(space, spaces.Box):
        return
    if not space.shape:
        raise _lacks("an observation without dimensions")
    if len(space.shape) != 3:
        return
    convolved, theirs = extractor == "auto", policy_name(space) == "CnnPolicy"
    same_channels = channels_last == (not is_image_space_channels_first(space))
    if convolved != theirs or (convolved and not same_channels) or (not convolved and space.dtype == "uint8"):
        raise _lacks(f"agent.policy_kwargs.features_extractor_class {extractor} for images of shape {space.shape}")


def _lacks(what: str) -> ConfigError:
    return ConfigError(
        f"Stable-Baselines3 has nothing like {what}, which this policy was trained with.",
        "Train without it to export, or use the policy through rltrain.load(run).",
    )
