"""The configuration of a run on disk: ``config.yaml``, whose checksum every checkpoint keeps."""

from __future__ import annotations

import hashlib
import warnings
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from rltrain.config import TrainConfig, with_classes
from rltrain.errors import CheckpointError, ConfigError
from rltrain.registry import agent_config_class
from rltrain.runs.layout import CHECKPOINTS
from rltrain.runs.verify import newest_facts
from rltrain.settings import YAML_LIMIT, canonical, parse_yaml, validate
from rltrain.storage.files import Damaged, may_be_whole, read_bytes, reason, write_new

CONFIG = "config.yaml"
DIGEST = "config_sha256"
"""The entry of a checkpoint's facts with the checksum."""
BEFORE = {"action_masks": False}
"""Options of the environment in runs that are older than the options, if other than the defaults of today."""


class RunConfigError(CheckpointError, ConfigError):
    """The configuration in a run folder cannot be read, or is not the one that the run was made with."""


class ConfigFile:
    """The file with the configuration of a run.

    Args:
        run: The run folder.
    """

    def __init__(self, run: Path) -> None:
        self._path = run / CONFIG
        self._checkpoints = run / CHECKPOINTS
        self._digest: str | None = None  # of the content that this process has read or written

    def write(self, content: bytes) -> None:
        """Makes the file.

        Raises:
            OSError: It cannot be written.
        """
        self._digest = hashlib.sha256(content).hexdigest()
        write_new(self._path, content)

    def digest(self) -> str | None:
        """Its checksum; None if it cannot be read."""
        if self._digest is None:
            with suppress(OSError, Damaged):
                self._read()
        return self._digest

    def read(self, classes: Sequence[type] = ()) -> TrainConfig:
        """See :meth:`RunFolder.config <rltrain.runs.folder.RunFolder.config>`."""
        path = self._path
        try:
            data = canonical(parse_yaml(self._read().decode(), str(path)))
            env_id = str(data.get("env", {}).get("id"))
            if ":" in env_id:  # which would import a module
                raise ConfigError(f"'{path}' names code to run: '{env_id}'.", "Name the environment alone.")
            data["env"] = {**BEFORE, **data.get("env", {})}
        except (OSError, Damaged, UnicodeDecodeError) as error:
            fix = "Make it readable." if may_be_whole(error) else f"Put back the {CONFIG} that the run was made with."
            why = "it is not text" if isinstance(error, UnicodeDecodeError) else reason(error)
            raise RunConfigError(f"'{path}' cannot be read: {why}.", fix) from error
        except ConfigError as error:
            raise self._unfit(error) from error
        try:
            model = agent_config_class(str(data.get("algo")))
        except ConfigError as error:
            if self._changed():
                raise self._unfit(error) from error
            raise
        try:
            agent = validate(model, with_classes(data.get("agent", {}), classes), "agent.")
            config = validate(TrainConfig, {**data, "agent": agent})
        except ConfigError as error:
            raise self._unfit(error) from error
        if self._changed():
            warnings.warn(f"'{path}' was changed since the run was made.", stacklevel=3)
        return config

    def _read(self) -> bytes:
        content = read_bytes(self._path, YAML_LIMIT)
        self._digest = hashlib.sha256(content).hexdigest()
        return content

    def _unfit(self, error: ConfigError) -> RunConfigError:
        """An error about the configuration that names its file."""
        path = str(self._path)
        cause = error.cause if path in error.cause else f"'{path}' is damaged or was changed: {error.cause}"
        return RunConfigError(cause, error.fix)

    def _changed(self) -> bool:
        """Whether the configuration is another one than when the newest checkpoint was saved."""
        with suppress(CheckpointError):
            return newest_facts(self._checkpoints).get(DIGEST, self._digest) != self._digest
        return False
