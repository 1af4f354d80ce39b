"""The same policy in our words and in those of Stable-Baselines3: parameters by name, and the settings behind them."""

from __future__ import annotations

import re
from collections.abc import Mapping

from torch import Tensor

from rltrain.errors import CheckpointError

SHARED = ("features_extractor.", "pi_features_extractor.", "vf_features_extractor.")
PPO_NAMES = (  # ours, and Stable-Baselines3's
    ("policy.distribution.log_std", "log_std"),
    ("policy.pi.", "mlp_extractor.policy_net."),
    ("policy.vf.", "mlp_extractor.value_net."),
    ("policy.action_head.", "action_net."),
    ("policy.value_head.", "value_net."),
    ("policy.encoder.layers.7.", "features_extractor.linear.0."),  # what comes before is numbered alike
    ("policy.encoder.layers.", "features_extractor.cnn."),
)
NOT_POLICY = ("obs_normalizer.", "reward_normalizer.")
OBS, RETURN = "normalizer.obs.", "normalizer.return."


def ppo_to_sb3(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Our PPO's parameters under Stable-Baselines3's names; what observations are scaled by is left out."""
    renamed: dict[str, Tensor] = {}
    for name, tensor in state.items():
        if name.startswith(NOT_POLICY) or not name.startswith("policy."):
            continue
        theirs = _renamed(name, PPO_NAMES)
        if theirs.startswith(SHARED[0]):  # one network under three names
            renamed |= {prefix + theirs.removeprefix(SHARED[0]): tensor for prefix in SHARED}
        else:
            renamed[theirs] = tensor
    return renamed


def ppo_from_sb3(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The inverse of :func:`ppo_to_sb3`.

    Raises:
        CheckpointError: There is a network that our PPO does not have.
    """
    table = tuple((theirs, ours) for ours, theirs in PPO_NAMES)
    renamed: dict[str, Tensor] = {}
    for name, tensor in state.items():
        if name.startswith(SHARED[1:]):
            continue
        ours = _renamed(name, table)
        if ours == name:
            raise CheckpointError(
                f"Our ppo has nothing like '{name}' of that policy.", "Import it with --algo sb3/ppo, which has."
            )
        renamed[ours] = tensor
    if "policy.distribution.log_std" in renamed:  # the agent holds its distribution under a second name
        renamed["distribution.log_std"] = renamed["policy.distribution.log_std"]
    return renamed


def moments_to_sb3(state: Mapping[str, Tensor], prefix: str, to: str) -> dict[str, Tensor]:
    """The statistics of a normalizer under the names that :class:`~rltrain.sb3.agent.SB3Agent` has for them."""
    renamed = {}
    for name, tensor in state.items():
        if not name.startswith(prefix):
            continue
        module, _, part = name.removeprefix(prefix).rpartition(".")
        key = module.strip("[]").replace("/", ".") if module.startswith("[") else ""
        renamed[f"{to}{key}.{part}"] = tensor
    return renamed


def net_arch_of(state: Mapping[str, Tensor]) -> dict[str, list[int]]:
    """Widths of the hidden layers of an actor-critic policy of Stable-Baselines3, from its parameters."""

    def widths(network: str) -> list[int]:
        pattern = re.compile(rf"mlp_extractor\.{network}\.(\d+)\.weight")
        found = {pattern.fullmatch(name): tensor.shape[0] for name, tensor in state.items()}
        layers = {int(match[1]): width for match, width in found.items() if match}
        return [layers[index] for index in sorted(layers)]

    return {"pi": widths("policy_net"), "vf": widths("value_net")}


def _renamed(name: str, table: tuple[tuple[str, str], ...]) -> str:
    for before, after in table:
        if name.startswith(before):
            return after + name.removeprefix(before)
    return name
