"""Versions in MLflow's registry beside those in the folder: put there, named there, brought back."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from rltrain.errors import CheckpointError, ConfigError, RunError
from rltrain.model_registry.files import check_files, listed
from rltrain.naming.installed import need
from rltrain.process.telemetry import switch_off
from rltrain.runs.layout import VERSION
from rltrain.storage.files import Damaged, exists, reason
from rltrain.storage.making import making
from rltrain.storage.records import read_record

PLACE = "RLTRAIN_MODELS_MLFLOW"
"""Environment variable: the address of MLflow's registry, such as ``sqlite:///mlflow.db``."""
LONGEST_TAG = 5000  # letters
FOLDER, NUMBER, EXPERIMENT = "policy", "rltrain.version", "rltrain-models"


class MlflowCopy:
    """The versions of one policy in MLflow.

    Args:
        uri: The address of its registry, which holds the runs too.
        name: Of the policy.

    Raises:
        ConfigError: MLflow is not installed, or the address is none.
    """

    def __init__(self, uri: str, name: str) -> None:
        need("mlflow", install="rltrain[mlflow]")
        switch_off()
        from mlflow.exceptions import MlflowException
        from mlflow.tracking import MlflowClient

        self.uri, self.name, self._refused = uri, name, MlflowException
        try:
            self._client = MlflowClient(tracking_uri=uri, registry_uri=uri)
        except MlflowException as error:
            raise ConfigError(f"{PLACE}={uri} does not fit: {_line(error)}", "Such as: sqlite:///mlflow.db") from error

    def sync(
        self,
        versions: Iterable[int],
        aliases: Mapping[str, int],
        open_version: Callable[[int], tuple[Path, Mapping[str, Any]]],
    ) -> None:
        """Makes MLflow's registry agree with ours: adds the versions that it lacks, and names them alike.

        Args:
            versions: The numbers of our versions. MLflow's own may differ; ours is a tag there.
            aliases: Our versions by alias.
            open_version: Gives the verified folder of a version, and its ``version.json``.

        Raises:
            RunError: MLflow cannot be reached, or refuses.
        """
        try:
            self._create()
            known = self._numbers()
            for number in versions:
                if number not in known:
                    known[number] = self._add(*open_version(number))
            named = dict(self._client.get_registered_model(self.name).aliases)
            for alias in named.keys() - aliases.keys():
                self._client.delete_registered_model_alias(self.name, alias)
            for alias, number in aliases.items():
                if str(named.get(alias)) != known[number]:
                    self._client.set_registered_model_alias(self.name, alias, known[number])
        except (self._refused, OSError) as error:
            raise self._failed(error) from error

    def _create(self) -> None:
        try:
            self._client.create_registered_model(self.name)
        except self._refused as error:
            if error.error_code != "RESOURCE_ALREADY_EXISTS":
                raise

    def _add(self, folder: Path, facts: Mapping[str, Any]) -> str:
        """Adds a version with its files and lineage; returns MLflow's number."""
        found = self._client.get_experiment_by_name(EXPERIMENT)
        experiment = found.experiment_id if found else self._client.create_experiment(EXPERIMENT, self._artifacts())
        tags = {f"rltrain.{key}": str(value)[:LONGEST_TAG] for key, value in facts["lineage"].items()}
        title = f"{self.name} {facts['version']}"
        run = self._client.create_run(experiment, run_name=title, tags=tags).info.run_id
        self._client.log_artifacts(run, str(folder), FOLDER)
        for key, value in (facts.get("metrics") or {}).items():
            if type(value) in (int, float):
                self._client.log_metric(run, key, value)
        self._client.set_terminated(run)
        tags[NUMBER] = str(facts["version"])
        return str(self._client.create_model_version(self.name, f"runs:/{run}/{FOLDER}", run, tags=tags).version)

    def fetch(self, which: str, out: Path) -> dict[str, Any]:
        """Brings a version back as a run folder, every file of which is compared with its checksum.

        Args:
            which: An alias, or a number of ours.
            out: The folder to make.

        Returns:
            Its ``version.json``.

        Raises:
            ConfigError: There is no such version, or there is something at ``out``.
            CheckpointError: A file of it was changed.
            RunError: MLflow refuses, or cannot be reached.
        """
        if exists(out):
            raise ConfigError(f"There is something at '{out}' already.", "Choose another place for it.")
        try:
            version = self._find(which)
            with making(out) as temporary:
                self._client.download_artifacts(version.run_id, FOLDER, str(temporary))
                folder = temporary / FOLDER
                facts = read_record(folder / VERSION)
                listed(facts)
                check_files(folder, facts)
                folder.rename(out)
            return facts
        except Damaged as error:
            raise CheckpointError(f"'{self.name}@{which}' cannot be used: {error}.", "Take another version.") from error
        except (self._refused, OSError) as error:
            raise self._failed(error) from error

    def _find(self, which: str) -> Any:
        """The version of an alias, or of a number of ours."""
        try:
            if not which.isdigit():
                return self._client.get_model_version_by_alias(self.name, which)
            if (found := self._numbers().get(int(which))) is not None:
                return self._client.get_model_version(self.name, found)
        except self._refused as error:
            if error.error_code not in ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"):
                raise
        raise ConfigError(f"MLflow has no version '{which}' of '{self.name}'.", f"Its registry is {self.uri}.")

    def _numbers(self) -> dict[int, str]:
        """MLflow's numbers of our versions."""
        found: dict[int, str] = {}
        page = None
        while True:
            some = self._client.search_model_versions(f"name = '{self.name}'", page_token=page)
            found |= {int(each.tags[NUMBER]): str(each.version) for each in some if NUMBER in each.tags}
            page = some.token
            if not page:
                return found

    def _artifacts(self) -> str | None:
        """Where files go where no server says so: beside the database."""
        path = self.uri.removeprefix("sqlite:///")
        return (Path(path).absolute().parent / "mlartifacts").as_uri() if path != self.uri else None

    def _failed(self, error: Exception) -> RunError:
        return RunError(f"MLflow at {self.uri}: {_line(error)}", f"See that it is there, or take {PLACE} away.")


def configured(name: str) -> MlflowCopy | None:
    """The copy where the environment names a place for it."""
    uri = os.environ.get(PLACE)
    return MlflowCopy(uri, name) if uri else None


def _line(error: Exception) -> str:
    return reason(error)[:300] if isinstance(error, OSError) else " ".join(str(error).split())[:300]
