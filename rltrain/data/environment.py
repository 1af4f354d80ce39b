"""The environment that a dataset was recorded in, as the settings of a run name it."""

from __future__ import annotations

from typing import Any

from rltrain.config import EnvConfig
from rltrain.data.dataset import Dataset
from rltrain.storage.values import from_plain


def recorded_environment(path: str) -> dict[str, Any] | None:
    """Id, options and constructor arguments in the shape of :class:`~rltrain.config.EnvConfig`; None if not known.

    Actions are rescaled where they were in the recording, and nowhere else.

    Raises:
        DatasetError: There is no such dataset.
        ConfigError: An argument cannot be read.
    """
    environment = Dataset.open(path).manifest.get("environment")
    if not isinstance(environment, dict):
        return None
    options = {str(name): from_plain(value) for name, value in (environment.get("options") or {}).items()}
    fields = EnvConfig.model_fields.keys() - {"id", "kwargs"}
    own = {name: value for name, value in options.items() if name in fields}
    kwargs = {name: value for name, value in options.items() if name not in fields}
    return {"id": str(environment["id"]), "rescale_action": False, **own, **({"kwargs": kwargs} if kwargs else {})}
