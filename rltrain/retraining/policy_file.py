"""The YAML file that says how a policy is kept up to date."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from rltrain.config import Model
from rltrain.data.drift import FEWEST, DriftConfig
from rltrain.errors import ConfigError
from rltrain.model_registry.gate import Gate
from rltrain.model_registry.store import NAME
from rltrain.settings import parse_yaml, validate
from rltrain.storage.files import Damaged, read_text, reason

OURS = ("algo", "init_from", "run_dir", "data", "nproc")
"""Options of training that the loop sets itself, or that it does not offer."""


class Collect(Model):
    """Where episodes of the champion in use come from."""

    logs: str | None = None
    """Folder of ``rltrain serve --log-decisions``; none to let the champion play in the environment as it is now."""
    episodes: Annotated[int, Field(ge=FEWEST)] = 200
    """Episodes to play, where there are no logs."""
    least: Annotated[int, Field(ge=FEWEST)] = 50
    """Episodes in the logs below which the loop waits for more."""
    missing_reward: Literal["drop", "zero"] = "drop"
    """Whether episodes in which rewards are missing are left out, or count as 0 there."""
    policies: Literal["champion", "any"] = "champion"
    """Whose episodes count: those of the version that is the champion, or all."""
    idle_seconds: Annotated[float, Field(gt=0.0)] = 3600.0
    """Seconds after its last decision from which an episode is over that nobody has ended."""


class PolicyFile(Model):
    """How a policy is kept up to date. Paths are relative to the folder of the file."""

    model: str
    """Its name in the registry."""
    registry: str = "models"
    """The folder of the registry."""
    key_file: str | None = None
    """File with the key that versions are signed by."""
    folder: str | None = None
    """Where the cycles are kept; none for one beside the file, named after it."""
    env: dict[str, Any] = Field(default_factory=dict)
    """Constructor arguments and options of the environment as it is now; the champion's own hold for all others."""
    collect: Collect = Field(default_factory=Collect)
    """Where episodes of the champion in use come from."""
    reward_range: tuple[float, float] | None = None
    """The lowest and the highest reward that may be."""
    reference: str | None = None
    """Dataset of the champion from when all was well; none to record one in the environment that it was trained in."""
    reference_episodes: Annotated[int, Field(ge=FEWEST)] = 200
    """Episodes of that recording."""
    drift: DriftConfig = Field(default_factory=DriftConfig)
    """How drift is looked for."""
    when: Literal["drift", "always"] = "drift"
    """Whether to train only if there is drift."""
    start: Literal["champion", "fresh"] = "champion"
    """Whether training goes on from the champion's policy, or begins with a fresh one."""
    train: dict[str, Any] = Field(default_factory=dict)
    """Options of training that differ from the champion's."""
    gate: Gate = Field(default_factory=Gate)
    """What the new version has to show; its ``env`` is laid over that above."""
    card: str | None = None
    """File with the card of the new version."""

    @model_validator(mode="after")
    def _ours(self) -> PolicyFile:
        for name in OURS:
            if name in self.train:
                raise ValueError(f"train.{name} is set by the loop")
        if "env" in self.train:
            raise ValueError("train.env: the environment as it is now is 'env', beside 'train'")
        if self.collect.logs is not None and "episodes" in self.collect.model_fields_set:
            raise ValueError("collect.episodes is for playing: with logs give collect.least")
        if self.collect.logs is None:
            for name in ("least", "missing_reward", "policies", "idle_seconds"):
                if name in self.collect.model_fields_set:
                    raise ValueError(f"collect.{name} is for logs, and there is no collect.logs")
        if self.reference is not None and "reference_episodes" in self.model_fields_set:
            raise ValueError("reference_episodes has no effect where a reference is given")
        if not NAME.fullmatch(self.model):
            raise ValueError(f"'{self.model}' is no name for a model")
        return self


def read_policy_file(path: str | Path) -> PolicyFile:
    """The settings in a YAML file, its paths absolute.

    Raises:
        ConfigError: It cannot be read, or does not fit.
    """
    path = Path(path)
    try:
        data = parse_yaml(read_text(path), str(path))
    except (OSError, Damaged) as error:
        raise ConfigError(f"The policy file '{path}' cannot be read: {reason(error)}.", "Name a YAML file.") from error
    settings = validate(PolicyFile, data)
    home = path.absolute().parent

    def absolute(value: str | None) -> str | None:
        return None if value is None else str(home / Path(value).expanduser())

    collect = settings.collect.model_copy(update={"logs": absolute(settings.collect.logs)})
    folder = settings.folder or f"{path.stem}.retraining"
    paths = {name: absolute(getattr(settings, name)) for name in ("registry", "key_file", "reference", "card")}
    return settings.model_copy(update={**paths, "folder": absolute(folder), "collect": collect})
