"""Transfer: starts from another policy, keeps parts of it as they are, and learns from a teacher."""

from __future__ import annotations

import warnings
from typing import Any

from torch import nn

from rltrain.agent import ACTOR, TEACHER, Agent
from rltrain.agents.parts.optim import FlatAdam
from rltrain.config import AgentConfig, TrainConfig
from rltrain.errors import CheckpointError, ConfigError
from rltrain.plugins import importer_of
from rltrain.runs.fitting import fit, matching
from rltrain.runs.folder import RunFolder
from rltrain.runs.policy import load
from rltrain.runs.restore import read_policy, renamed
from rltrain.spaces import first_unlike


def start_from(agent: Any, config: TrainConfig) -> None:
    """Loads what fits of the policy that ``init_from`` names, less what ``reset`` names; nothing if there is none.

    Args:
        agent: A new agent.
        config: The configuration.

    Raises:
        CheckpointError: It cannot be loaded, or nothing of it fits.
        ConfigError: ``reset`` names nothing that the agent has.
    """
    origin = config.init_from
    if origin is None:
        return
    known = agent.state_dict()
    names = {name for pattern in config.reset for name in matching("reset", pattern, known)}
    fresh = {name: known[name].clone() for name in names}
    if (importer := importer_of(origin)) is not None:
        importer(agent, origin, algo=config.algo, env_id=config.env.id)
    else:
        folder, named = RunFolder.open(origin)
        _, faults, state = folder.read(named or "latest", read_policy)
        for fault in faults:
            warnings.warn(fault, stacklevel=2)
        state = {name: tensor for name, tensor in renamed(state, known).items() if not name.startswith(TEACHER)}
        if isinstance(agent, Agent):
            state = agent.from_policy(state, lambda: folder.config().agent)
            _warn_of_activation(config.agent, folder, origin)
        fit(agent, state, origin)
    if fresh:
        agent.load_state_dict({**agent.state_dict(), **fresh})


def _warn_of_activation(mine: AgentConfig, folder: RunFolder, origin: str) -> None:
    """Says that the layers of a policy were trained with another activation than they get here."""
    activations = [
        getattr(getattr(each, "policy_kwargs", None), "activation_fn", None) for each in (mine, folder.config().agent)
    ]
    if None not in activations and activations[0] != activations[1]:
        warnings.warn(
            f"The layers of '{origin}' were trained with {activations[1]}, and here they get {activations[0]}: give "
            f"--agent.policy-kwargs.activation-fn {activations[1]}.",
            stacklevel=2,
        )


def scale_steps(agent: Any, config: TrainConfig) -> None:
    """Applies ``freeze`` and ``learning_rate_scale`` to the optimizers of an agent.

    Raises:
        ConfigError: They name nothing, the agent's optimizers cannot do this, or nothing would be left to learn.
    """
    if config.reset and config.init_from is None:
        raise ConfigError("--reset is for the policy that --init-from names, and there is none.", "Leave it out.")
    if config.teacher is None and config.teacher_coef != TrainConfig.model_fields["teacher_coef"].default:
        raise ConfigError("--teacher-coef is for a --teacher, and there is none.", "Leave it out.")
    wanted = [("freeze", pattern, 0.0) for pattern in config.freeze]
    wanted += [("learning-rate-scale", pattern, factor) for pattern, factor in config.learning_rate_scale.items()]
    if not wanted:
        return
    numbers = _places(agent)
    if not numbers:
        option = wanted[0][0]
        raise ConfigError(
            f"'{config.algo}' has an optimizer of its own, which --{option} does not reach.", "Leave it out."
        )
    factors: dict[str, float] = {}
    for option, pattern, factor in reversed(wanted):  # what is frozen stays so
        factors |= dict.fromkeys(matching(option, pattern, numbers), factor)
    if all(factors.get(name) == 0.0 for name in numbers):
        raise ConfigError("--freeze leaves nothing to learn.", "Name fewer layers.")
    steps: dict[FlatAdam, dict[int, float]] = {}
    for name, factor in factors.items():
        optimizer, number = numbers[name]
        steps.setdefault(optimizer, {})[number] = factor
    for optimizer, by_number in steps.items():
        optimizer.scale_steps(by_number)


def _places(agent: nn.Module) -> dict[str, tuple[FlatAdam, int]]:
    """The optimizer of each parameter and its number there, by the parameter's name in the agent's state."""
    if not isinstance(agent, Agent):
        return {}
    optimizers = [value for value in vars(agent).values() if isinstance(value, FlatAdam)]
    owners = {id(each): (one, number) for one in optimizers for number, each in enumerate(one.parameters)}
    names: dict[int, str] = {}
    for name, parameter in agent.named_parameters(remove_duplicate=False):
        if id(parameter) in owners and (id(parameter) not in names or name.startswith(ACTOR)):
            names[id(parameter)] = name
    return {name: owners[key] for key, name in names.items()}


def add_teacher(agent: Any, config: TrainConfig) -> None:
    """Lets an agent learn from the policy of the run that ``teacher`` names.

    Raises:
        CheckpointError: It cannot be loaded, or acts in other spaces.
        ConfigError: The agent cannot learn from a teacher.
    """
    if config.teacher is None:
        return
    if not isinstance(agent, Agent):
        raise ConfigError(f"'{config.algo}' cannot learn from a teacher.", "Leave --teacher out, or train ppo.")
    teacher = load(config.teacher, device=str(agent.device))
    here, there = (agent.observation_space, agent.action_space), (teacher.observation_space, teacher.action_space)
    if (unlike := first_unlike(here, there)) is not None:
        name, mine, other = unlike
        raise CheckpointError(
            f"The {name} of the teacher '{config.teacher}' are {other}, those here {mine}.",
            "Give a teacher that was trained with the same spaces, and the --env options that it had.",
        )
    actor = teacher.agent.actor
    if actor.initial_state(1) is not None:
        raise ConfigError(f"The teacher '{config.teacher}' has memory.", "Give one without.")
    agent.learn_from(actor.requires_grad_(False), config.teacher_coef)
