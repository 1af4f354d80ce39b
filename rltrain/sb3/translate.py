"""Translates parameter names between our policies and those of Stable-Baselines3."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from rltrain.errors import CheckpointError

OBS, RETURN = "normalizer.obs.", "normalizer.return."
"""Names of the statistics of observations and of returns in :class:`~rltrain.sb3.agent.SB3Agent`."""
NOT_POLICY = ("actor.obs_normalizer.", "reward_normalizer.")
EXTRACTOR = "features_extractor."
ALIASES = (f"pi_{EXTRACTOR}", f"vf_{EXTRACTOR}")
"""Further names of the features extractor, which the networks of an actor-critic share."""
CRITICS = ("critic", "critic_target")
TABLES = {  # beginnings of our names, and of Stable-Baselines3's; those of images are numbered alike
    "ppo": (
        ("actor.distribution.log_std", "log_std"),
        ("actor.pi.", "mlp_extractor.policy_net."),
        ("policy.vf.", "mlp_extractor.value_net."),
        ("actor.action_head.", "action_net."),
        ("policy.value_head.", "value_net."),
        ("actor.encoder.layers.7.", f"{EXTRACTOR}linear.0."),
        ("actor.encoder.layers.", f"{EXTRACTOR}cnn."),
    ),
    "dqn": (
        ("actor.network.body.", "q_net.q_net."),
        ("actor.network.encoder.layers.7.", f"q_net.{EXTRACTOR}linear.0."),
        ("actor.network.encoder.layers.", f"q_net.{EXTRACTOR}cnn."),
        ("target.body.", "q_net_target.q_net."),
        ("target.encoder.layers.7.", f"q_net_target.{EXTRACTOR}linear.0."),
        ("target.encoder.layers.", f"q_net_target.{EXTRACTOR}cnn."),
    ),
    "sac": (
        ("actor.body.", "actor.latent_pi."),
        ("actor.mu.", "actor.mu."),
        ("actor.log_std", "actor.log_std"),
        ("critic.qf", "critic.qf"),
        ("critic_target.qf", "critic_target.qf"),
        *(
            (f"{network}.encoder.layers.{ours}", f"{network}.{EXTRACTOR}{theirs}")
            for network in ("actor", "critic", "critic_target")
            for ours, theirs in (("7.", "linear.0."), ("", "cnn."))
        ),
    ),
}


def to_sb3(algo: str, state: Mapping[str, Tensor], hidden: int) -> dict[str, Tensor]:
    """The parameters of one of our agents under Stable-Baselines3's names, without the statistics of observations.

    Args:
        algo: ``ppo``, ``dqn`` or ``sac``.
        state: The agent's module state; of SAC as :func:`apart` gives it.
        hidden: Number of hidden layers of a network of action values.
    """
    renamed: dict[str, Tensor] = {}
    for name, tensor in state.items():
        if theirs := _renamed(name, _table(algo, hidden)):
            renamed[theirs] = tensor
            if theirs.startswith(EXTRACTOR):
                renamed |= {alias + theirs.removeprefix(EXTRACTOR): tensor for alias in ALIASES}
    return renamed


def from_sb3(algo: str, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The inverse of :func:`to_sb3`.

    Raises:
        CheckpointError: The policy has a network that the agent does not have.
    """
    arch = net_arch_of(algo, state)
    table = tuple((theirs, ours) for ours, theirs in _table(algo, len(arch)))
    renamed: dict[str, Tensor] = {}
    for name, tensor in state.items():
        if name.startswith(ALIASES):
            continue
        ours = _renamed(name, table)
        if ours is None:
            raise CheckpointError(
                f"Our {algo} has nothing like '{name}' of that policy.", f"Import it with --algo sb3/{algo}, which has."
            )
        renamed[ours] = tensor
    return together(renamed) if algo == "sac" else renamed


def apart(state: Mapping[str, Tensor], *, clip_mean: bool) -> dict[str, Tensor]:
    """The parameters of SAC with one entry for each critic, and for each of the two heads of the policy.

    Args:
        state: The agent's module state.
        clip_mean: Whether a mean that gSDE clips is a module within another there.
    """
    split: dict[str, Tensor] = {}
    sde = "actor.log_std" in state
    for name, tensor in state.items():
        network, _, rest = name.partition(".layers.")
        if name.startswith("actor.head."):
            kind = name.rpartition(".")[2]
            if sde:
                split[f"actor.mu.{'0.' if clip_mean else ''}{kind}"] = tensor
            else:
                split[f"actor.mu.{kind}"], split[f"actor.log_std.{kind}"] = tensor.chunk(2)
        elif network in CRITICS:
            layer, kind = rest.split(".")
            for i, each in enumerate(tensor):
                split[f"{network}.qf{i}.{2 * int(layer)}.{kind}"] = each.flatten() if kind == "bias" else each
        else:
            split[name] = tensor
    return split


def together(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The inverse of :func:`apart`."""
    joined: dict[str, Tensor] = {}
    stacks: dict[str, list[Tensor]] = {}
    for name, tensor in state.items():
        kind = name.rpartition(".")[2]
        if found := re.fullmatch(r"(critic|critic_target)\.qf\d+\.(\d+)\.(weight|bias)", name):
            stack = f"{found[1]}.layers.{int(found[2]) // 2}.{kind}"
            stacks.setdefault(stack, []).append(tensor.unsqueeze(0) if kind == "bias" else tensor)
        elif name.startswith("actor.mu."):
            deviation = state.get(f"actor.log_std.{kind}")
            joined[f"actor.head.{kind}"] = tensor if deviation is None else torch.cat((tensor, deviation))
        elif not name.startswith("actor.log_std."):
            joined[name] = tensor
    return {**joined, **{name: torch.stack(tensors) for name, tensors in stacks.items()}}


def moments_to_sb3(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The observation statistics of our agents under the names of :class:`~rltrain.sb3.agent.SB3Agent`."""
    prefix = "actor.obs_normalizer.moments."
    renamed = {}
    for name, tensor in state.items():
        if name.startswith(prefix):
            module, _, part = name.removeprefix(prefix).rpartition(".")
            key = module.strip("[]").replace("/", ".") if module.startswith("[") else ""
            renamed[f"{OBS}{key}.{part}"] = tensor
    return renamed


def net_arch_of(algo: str, state: Mapping[str, Tensor]) -> Any:
    """Widths of the hidden layers of a policy of Stable-Baselines3, from its parameters."""
    if algo == "sac":
        return {"pi": _widths(state, "actor.latent_pi"), "qf": _widths(state, "critic.qf0")[:-1]}
    if algo == "dqn":
        return _widths(state, "q_net.q_net")[:-1]  # the last are the action values
    return {"pi": _widths(state, "mlp_extractor.policy_net"), "vf": _widths(state, "mlp_extractor.value_net")}


def _widths(state: Mapping[str, Tensor], network: str) -> list[int]:
    pattern = re.compile(rf"{re.escape(network)}\.(\d+)\.weight")
    found = {pattern.fullmatch(name): tensor.shape[0] for name, tensor in state.items()}
    layers = {int(match[1]): width for match, width in found.items() if match}
    return [layers[index] for index in sorted(layers)]


def _table(algo: str, hidden: int) -> tuple[tuple[str, str], ...]:
    """The names of an algorithm; the layer of action values is counted with the hidden ones there, two numbers each."""
    if algo != "dqn":
        return TABLES[algo]
    heads = (
        ("actor.network.action_head.", f"q_net.q_net.{2 * hidden}."),
        ("target.action_head.", f"q_net_target.q_net.{2 * hidden}."),
    )
    return heads + TABLES[algo]


def _renamed(name: str, table: tuple[tuple[str, str], ...]) -> str | None:
    for before, after in table:
        if name.startswith(before):
            return after + name.removeprefix(before)
    return None
