"""Reads a zip that Stable-Baselines3 saved without running code: tensors by torch's safe loader, text as text.

Its ``data`` is JSON in which pickles are embedded as text. They are never decoded. Beside each one stands a description
of the object in words, which is read instead.
"""

from __future__ import annotations

import ast
import io
import re
import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from pydantic import BaseModel

from rltrain.errors import CheckpointError, ConfigError
from rltrain.schedules import LINEAR
from rltrain.storage.files import MIB, TEXT_LIMIT, Damaged, open_file, reason
from rltrain.storage.records import parse_json

PICKLED = ":serialized:"
VARIABLES = "pytorch_variables"
MEMBERS, RATIO = 100_000, 20
"""Most members of an archive, and most bytes that a byte of it may stand for."""


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
            with _regular(path) as file, zipfile.ZipFile(file) as archive:
                _check_sizes(archive)
                data = parse_json(_member(archive, "data"))
                names = [name for name in archive.namelist() if name.endswith(".pth")]
                modules = {name.removesuffix(".pth"): _tensors(_member(archive, name), name, path) for name in names}
        except OSError as error:
            raise CheckpointError(f"'{path}' cannot be read: {reason(error)}.", "Check its path.") from error
        except (zipfile.BadZipFile, KeyError, ValueError, RuntimeError, EOFError, zlib.error) as error:
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


def _regular(path: Path) -> io.BufferedReader:
    """Opens a file that the user named; it may be behind a link, but is no pipe and no device."""
    return open_file(path.resolve())


def _check_sizes(archive: zipfile.ZipFile) -> None:
    """Refuses an archive that would become far larger than it is, or that has a mass of members.

    Raises:
        Damaged: It would. Stable-Baselines3 and torch do not compress.
    """
    members = archive.infolist()
    packed, unpacked = sum(each.compress_size for each in members), sum(each.file_size for each in members)
    if len(members) > MEMBERS:
        raise Damaged(f"it has {len(members):,} members")
    if unpacked > RATIO * packed + 16 * MIB:
        raise Damaged(f"its {packed:,} bytes stand for {unpacked:,}")


def _member(archive: zipfile.ZipFile, name: str) -> bytes:
    """A member, no longer than the archive says."""
    info = archive.getinfo(name)
    if name == "data" and info.file_size > TEXT_LIMIT:
        raise Damaged(f"'{name}' has more than {TEXT_LIMIT:,} bytes")
    with archive.open(info) as file:
        return file.read(info.file_size)


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
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
        return value


def _tensors(content: bytes, name: str, path: Path) -> Any:
    """The tensors of a file in the zip, by torch's safe loader.

    Raises:
        CheckpointError: It contains more than tensors.
    """
    try:
        if zipfile.is_zipfile(io.BytesIO(content)):  # as torch writes since 1.6
            with zipfile.ZipFile(io.BytesIO(content)) as inner:
                _check_sizes(inner)
        return torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
    except Exception as error:  # anything in there that is not a tensor
        raise CheckpointError(
            f"'{name}' in '{path}' holds something other than tensors, or is damaged. Nothing of it was run.",
            "Ask for one that the algorithm's own save() wrote.",
        ) from error
