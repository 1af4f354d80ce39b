"""Reads a zip that Stable-Baselines3 saved without running code: tensors by torch's safe loader, text as text.

Its ``data`` is JSON in which pickles are embedded as text. They are never decoded. Beside each one stands a description
of the object in words, which is read instead.
"""

from __future__ import annotations

import ast
import io
import json
import re
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from pydantic import BaseModel

from rltrain.errors import CheckpointError, ConfigError
from rltrain.schedules import LINEAR

PICKLED = ":serialized:"
VARIABLES = "pytorch_variables"


@dataclass(frozen=True)
class Archive:
    """The contents of a zip.

    Attributes:
        path: The file.
        data: The attributes of the algorithm, as JSON.
        modules: State dicts by name: ``policy``, ``policy.optimizer``...
        variables: Further tensors by name.
    """

    path: Path
    data: dict[str, Any]
    modules: dict[str, Any]
    variables: dict[str, Any]

    @classmethod
    def read(cls, path: str | Path) -> Archive:
        """Reads a file.

        Raises:
            CheckpointError: It is missing, is not such a zip, or contains more than tensors where tensors should be.
        """
        path = Path(path)
        try:
            with zipfile.ZipFile(path) as archive:
                data = json.loads(archive.read("data"))
                names = [name for name in archive.namelist() if name.endswith(".pth")]
                modules = {name.removesuffix(".pth"): _tensors(archive.read(name), name, path) for name in names}
        except OSError as error:
            raise CheckpointError(f"'{path}' cannot be read: {error.strerror}.", "Check its path.") from error
        except (zipfile.BadZipFile, KeyError, ValueError, RuntimeError) as error:
            raise CheckpointError(
                f"'{path}' was not saved by Stable-Baselines3: {error}.", "Name what model.save(...) wrote."
            ) from error
        if not isinstance(data, dict) or not isinstance(modules.get("policy"), dict):
            raise CheckpointError(f"'{path}' holds no policy.", "Name what model.save(...) of Stable-Baselines3 wrote.")
        return cls(path, data, modules, modules.pop(VARIABLES, None) or {})

    @property
    def algorithm(self) -> str:
        """The name of the class that saved it.

        Raises:
            ConfigError: The class is unknown.
        """
        described = self.data.get("policy_class")
        home = str(described.get("__module__")) if isinstance(described, dict) else ""
        by_home = {
            "stable_baselines3.dqn.policies": "DQN",
            "stable_baselines3.sac.policies": "SAC",
            "stable_baselines3.td3.policies": "TD3",  # DDPG is a TD3 with other settings
            "sb3_contrib.tqc.policies": "TQC",
            "sb3_contrib.qrdqn.policies": "QRDQN",
            "sb3_contrib.crossq.policies": "CrossQ",
        }
        if home == "stable_baselines3.common.policies":
            marks = {"clip_range": "PPO", "cg_max_steps": "TRPO"}
            return next((name for key, name in marks.items() if key in self.data), "A2C")
        if home not in by_home:
            raise ConfigError(
                f"'{self.path}' holds a policy class of its own, from '{home or 'nowhere'}'.",
                "Policies of Stable-Baselines3's and sb3-contrib's own classes can be read, MaskablePPO's and "
                "RecurrentPPO's not.",
            )
        return by_home[home]

    def settings(self, model: type[BaseModel]) -> tuple[dict[str, Any], list[str]]:
        """The hyperparameters readable as words, for a config class, and the names of the others."""
        settings: dict[str, Any] = {}
        lost = []
        for name in model.model_fields:
            if name == "policy_kwargs" or name not in self.data:
                continue
            value = readable(self.data[name])
            if value is None and self.data[name] is not None:
                lost.append(name)
            else:
                settings[name] = value
        return settings, lost

    def policy_kwargs(self) -> dict[str, Any]:
        """The constructor arguments of the policy readable as words; classes by their names."""
        given = self.data.get("policy_kwargs") or {}
        kwargs = {name: _literal(value) for name, value in given.items() if not name.startswith(":")}
        return {name: value for name, value in kwargs.items() if value is not None}


def readable(value: Any) -> Any:
    """A value of ``data`` as a setting: plain, or a schedule in words; None if only a pickle has it."""
    if not isinstance(value, dict):
        return value
    if PICKLED not in value:
        return value
    words = str(value.get("value_schedule", ""))
    if not words and {"start", "end", "end_fraction"} <= value.keys():
        words = "LinearSchedule(start={start}, end={end}, end_fraction={end_fraction})".format(**value)
    number = r"([-+.\de]+)"
    if found := re.fullmatch(rf"ConstantSchedule\(val={number}\)", words):
        return float(found[1])
    if found := re.fullmatch(rf"LinearSchedule\(start={number}, end=0(?:\.0)?, end_fraction=1(?:\.0)?\)", words):
        return f"{LINEAR}{float(found[1])}"
    return None


def _literal(value: Any) -> Any:
    """A value, what its ``str`` says, or the name of a class."""
    if not isinstance(value, str):
        return value
    if found := re.fullmatch(r"<class '(?:\w+\.)*(\w+)'>", value):
        return found[1]
    try:
        return ast.literal_eval(value)
    except (ValueError, SyntaxError):
        return value


def _tensors(content: bytes, name: str, path: Path) -> Any:
    """The tensors of a file in the zip, by torch's safe loader.

    Raises:
        CheckpointError: It contains more than tensors.
    """
    try:
        return torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
    except Exception as error:  # anything in there that is not a tensor
        raise CheckpointError(
            f"'{name}' in '{path}' holds something other than tensors, or is damaged. Nothing of it was run.",
            "Ask for one that the algorithm's own save() wrote.",
        ) from error
