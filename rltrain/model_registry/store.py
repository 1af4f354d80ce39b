"""The registry on disk: versions that never change, and one small file that says which of them is which.

models/NAME/
  state.json          aliases and log, with a checksum; replaced in one step, so that no kill leaves half of it
  v1/                 a run folder with the policy alone: rltrain.load, eval, serve and export take it
    config.yaml, metadata.json, checkpoints/step_.../
    card.md           what its maker says about it, if that was given
    version.json      lineage, size and SHA-256 of every file, with a checksum and perhaps a signature
"""

from __future__ import annotations

import re
import secrets
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from rltrain.errors import CheckpointError, ConfigError, RunError, did_you_mean
from rltrain.model_registry.card import card_text
from rltrain.model_registry.contents import CARD, broken, content_of, lineage_of, read_facts, signature_of
from rltrain.model_registry.files import check_files, files_in
from rltrain.model_registry.mlflow_copy import PLACE, configured
from rltrain.model_registry.state import WRITING, add_to_log, changing, read_state
from rltrain.naming.arguments import typed
from rltrain.runs.checkpoint import MODULES, load_modules, load_policy, save_checkpoint
from rltrain.runs.folder import RunFolder
from rltrain.runs.layout import CHECKPOINTS, VERSION, step_of
from rltrain.runs.verify import read_manifest
from rltrain.storage.digests import entry_of
from rltrain.storage.files import Damaged, check_folder, exists, reason, sync_directory, write_new
from rltrain.storage.making import unfinished
from rltrain.storage.records import now, sealed

CHAMPION, CHALLENGER = "champion", "challenger"
ROLLED_BACK = "rolled back"
NAME = re.compile(r"[A-Za-z0-9][\w.-]{0,63}", re.ASCII)
COPIED = ("config.yaml", "metadata.json")
ANY = "any"


class Registry:
    """The versions of one policy.

    Args:
        folder: The folder of all registered policies.
        name: Of the policy. Where ``RLTRAIN_MODELS_MLFLOW`` names a registry of MLflow, its versions are there too.
        key: What versions are signed with, and must be signed with to be loaded; None for no signatures.

    Raises:
        ConfigError: The name cannot be that of a folder.
    """

    @typed()
    def __init__(self, folder: str | Path, name: str, key: bytes | None = None) -> None:
        if not NAME.fullmatch(name):
            fix = "Use up to 64 letters, digits, '.', '_' and '-', beginning with a letter or digit."
            raise ConfigError(f"'{name}' is no name for a model.", fix)
        self.path, self.name, self.key = Path(folder) / name, name, key
        self._copy = configured(name)

    @typed("run")
    def register(
        self,
        run: str | Path,
        *,
        checkpoint: str = "latest",
        card: str | Path | None = None,
        lineage: Mapping[str, Any] | None = None,
    ) -> int:
        """Adds the policy of a run as the next version, and calls it the challenger.

        Args:
            run: The run.
            checkpoint: ``best``, ``latest`` or a step.
            card: A file with what its maker says about it.
            lineage: What is known of its origin beside what the run says.

        Returns:
            Its number.

        Raises:
            CheckpointError: There is no such run or checkpoint, or it is damaged.
            ConfigError: The card cannot be read.
            RunError: The registry cannot be written to.
        """
        source, named = RunFolder.open(run)
        metadata = source.metadata()
        path, _, (tensors, beside, manifest) = source.read(named or checkpoint, _learned)
        text = None if card is None else card_text(Path(card)).encode()
        copied = {name: content_of(source.path / name) for name in COPIED}
        with changing(self.path) as state:
            number = max(self.versions(), default=0) + 1
            temporary = self.path / f"{WRITING}{secrets.token_hex(4)}"
            with unfinished(temporary):
                temporary.mkdir()
                for name, content in copied.items():
                    write_new(temporary / name, content)
                if text is not None:
                    write_new(temporary / CARD, text)
                about = manifest.get("run")
                save_checkpoint(temporary / CHECKPOINTS, step_of(path), tensors, {MODULES: beside}, facts=about)
                facts: dict[str, Any] = {
                    "name": self.name,
                    "version": number,
                    "registered": now(),
                    "lineage": {**lineage_of(source, path, metadata, manifest), **(lineage or {})},
                    "metrics": metadata.get("evaluation"),
                    "files": {name: entry_of(temporary / name) for name in files_in(temporary)},
                }
                write_new(temporary / VERSION, sealed({**facts, "signature": signature_of(facts, self.key)}).encode())
                sync_directory(temporary)
                temporary.rename(self.path / f"v{number}")
                sync_directory(self.path)
            state["aliases"][CHALLENGER] = number
            add_to_log(state, "registered", version=number, run=facts["lineage"]["run"])
        self._mirror()
        return number

    def versions(self) -> list[int]:
        """The numbers of the versions, oldest first."""
        try:
            check_folder(self.path)
            found = [path.name for path in self.path.iterdir()] if exists(self.path) else []
        except OSError as error:
            raise CheckpointError(f"'{self.path}' cannot be read: {reason(error)}.", "Make it readable.") from error
        return sorted(int(name[1:]) for name in found if re.fullmatch(r"v[1-9]\d{0,8}", name, re.ASCII))

    def find(self, which: str) -> int:
        """The version of a number or an alias.

        Raises:
            ConfigError: There is none.
        """
        aliases, numbers = self.state()["aliases"], self.versions()
        number = int(which) if which.isascii() and which.isdigit() and len(which) < 10 else aliases.get(which)
        if number not in numbers:
            known = [*aliases, *map(str, numbers)]
            fix = did_you_mean(which, known, f"There are: {', '.join(known)}." if known else "Register a run first.")
            raise ConfigError(f"'{self.name}' has no version '{which}'.", fix)
        assert number is not None
        return number

    def open(self, number: int) -> Path:
        """The folder of a version, every file of which was compared with its checksum, for ``rltrain.load``.

        Raises:
            CheckpointError: A file was changed, is missing, or is one too many; or the signature is missing or wrong.
        """
        folder = self.path / f"v{number}"
        facts = self.facts(number)
        try:
            check_files(folder, facts)
        except (OSError, Damaged) as error:
            raise broken(folder, error) from error
        return folder

    def facts(self, number: int) -> dict[str, Any]:
        """What is known about a version, its signature verified where there is a key.

        Raises:
            CheckpointError: It was changed, or the signature is missing or wrong.
        """
        return read_facts(self.path / f"v{number}", self.name, number, self.key)

    def state(self) -> dict[str, Any]:
        """The aliases and the log.

        Raises:
            CheckpointError: They were changed, or cannot be read.
        """
        return read_state(self.path)

    def name_version(
        self, alias: str, number: int, action: str = "named", *, expected: int | str | None = ANY, **more: Any
    ) -> None:
        """Gives a version an alias, in one step, and logs it.

        Args:
            alias: The alias.
            number: The version.
            action: The word for it in the log.
            expected: The version that must have the alias now, or None.
            **more: What else the log says.

        Raises:
            ConfigError: There is no such version, or the alias is a number.
            RunError: It cannot be written, or another version has the alias than was expected.
        """
        if not NAME.fullmatch(alias) or alias.isdigit():
            raise ConfigError(f"'{alias}' is no alias.", f"Use letters and digits, such as '{CHALLENGER}'.")
        self.find(str(number))
        with changing(self.path) as state:
            before = state["aliases"].get(alias)
            if expected not in (ANY, before):
                raise RunError(f"'{alias}' is version {before} by now, no longer {expected}.", "Try again.")
            state["aliases"][alias] = number
            if alias == CHAMPION and state["aliases"].get(CHALLENGER) == number:
                del state["aliases"][CHALLENGER]
            add_to_log(state, action, alias=alias, version=number, before=before, **more)
        self._mirror()

    def copy(self) -> None:
        """Makes MLflow's registry agree with this one, where the environment names a place for it.

        Raises:
            ConfigError: It names none.
            RunError: MLflow refuses, or cannot be reached.
        """
        if self._copy is None:
            raise ConfigError(f"{PLACE} names no registry of MLflow.", f"{PLACE}=sqlite:///mlflow.db rltrain ...")
        versions = self.versions()
        self._copy.sync(versions, self.state()["aliases"], lambda number: (self.open(number), self.facts(number)))

    def _mirror(self) -> None:
        """Copies a change to MLflow. The change stands here even if that fails."""
        if self._copy is None:
            return
        try:
            self.copy()
        except RunError as error:
            warnings.warn(f"{error.cause} Later, make up for it: rltrain models mirror {self.name}", stacklevel=3)

    def note(self, action: str, **more: Any) -> None:
        """Logs something that changes no alias.

        Raises:
            RunError: It cannot be written.
        """
        with changing(self.path) as state:
            add_to_log(state, action, **more)

    def roll_back(self) -> int:
        """Makes the champion before the present one the champion again; returns its number.

        Raises:
            ConfigError: There was none before it.
        """
        state = self.state()
        now = state["aliases"].get(CHAMPION)
        changes = [each for each in state["log"] if each.get("alias") == CHAMPION and each["action"] != ROLLED_BACK]
        before = next((each.get("before") for each in reversed(changes) if each.get("version") == now), None)
        if before not in self.versions():
            raise ConfigError(f"'{self.name}' has had no other champion.", "Name one: rltrain models alias.")
        assert isinstance(before, int)
        self.name_version(CHAMPION, before, ROLLED_BACK)
        return before


def names_in(folder: str | Path) -> list[str]:
    """The policies in a registry.

    Raises:
        CheckpointError: There is no registry.
    """
    try:
        return sorted(path.name for path in Path(folder).iterdir() if path.is_dir() and NAME.fullmatch(path.name))
    except OSError as error:
        fix = "Register a run: rltrain models register NAME RUN"
        raise CheckpointError(f"There is no registry '{folder}': {reason(error)}.", fix) from error


def _learned(checkpoint: Path) -> tuple[dict[str, Tensor], dict[str, Tensor], dict[str, Any]]:
    """The tensors that acting needs, those learned beside them, such as a critic's, and the manifest."""
    return load_policy(checkpoint), load_modules(checkpoint), read_manifest(checkpoint)
