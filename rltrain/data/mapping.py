"""The YAML file that says which columns of a table are observations, actions and rewards."""

from __future__ import annotations

from itertools import chain
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import yaml
from gymnasium import spaces
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from rltrain.data.personal import Treatment
from rltrain.errors import ConfigError
from rltrain.storage.files import Damaged, read_text, reason
from rltrain.storage.yaml_text import safe_load

MAPPING_LIMIT = 2**20
Names = list[Annotated[str, Field(min_length=1)]]


class Mapping(BaseModel):
    """What the columns of a table mean.

    Attributes:
        episode: The column that tells episodes apart, such as a session.
        observation: Columns that make up the observation, or several such lists by name.
        action: The column of the action, or several for one of numbers.
        actions: How many discrete actions there are, or their names in the table; None for one of numbers.
        action_low: Lowest number of an action of numbers; None for unbounded.
        action_high: Highest one.
        reward: The column of the reward.
        terminated: The column that is true where an episode ended by itself.
        truncated: The column that is true where it was cut off.
        last_step: How the last row of an episode counts where neither is true.
        action_mask: Columns that are true where an action is allowed.
        groups: Columns by which episodes are sliced and split, such as the person.
        policy: The column with the name of who acted.
        personal: What becomes of columns about people. No other column of the table is read at all.
        reward_range: The lowest and the highest reward that may be, for ``rltrain data check``.
        incomplete: What becomes of an episode with an empty cell.
    """

    model_config = ConfigDict(extra="forbid")

    episode: str
    observation: Names | dict[str, Names]
    action: str | Names
    actions: Annotated[int, Field(ge=2, le=2**20)] | list[str | int | float | bool] | None = None
    action_low: float | None = None
    action_high: float | None = None
    reward: str
    terminated: str | None = None
    truncated: str | None = None
    last_step: Literal["terminated", "truncated", "unlabelled"] = "unlabelled"
    action_mask: Names | None = None
    groups: list[str] = Field(default_factory=list)
    policy: str | None = None
    personal: dict[str, Treatment] = Field(default_factory=dict)
    reward_range: tuple[float, float] | None = None
    incomplete: Literal["refuse", "drop"] = "refuse"

    @field_validator("observation")
    @classmethod
    def _some(cls, value: Any) -> Any:
        parts = value.values() if isinstance(value, dict) else [value]
        if not value or not all(parts):
            raise ValueError("it needs a column")
        return value

    @property
    def observed(self) -> dict[str, list[str]]:
        """The columns of each part of the observation; one part with the name "" if there is but one."""
        return dict(self.observation) if isinstance(self.observation, dict) else {"": self.observation}

    @property
    def acted(self) -> list[str]:
        """The columns of the action."""
        return [self.action] if isinstance(self.action, str) else self.action

    def read(self) -> list[str]:
        """The columns that are read from the table."""
        flags = (self.terminated, self.truncated, self.policy)
        names = [self.episode, *chain(*self.observed.values()), *self.acted, self.reward]
        names += [*(name for name in flags if name), *(self.action_mask or ()), *self.groups]
        return list(dict.fromkeys(names))

    def spaces(self) -> tuple[spaces.Space, spaces.Space]:
        """The spaces of a single observation and a single action.

        Raises:
            ConfigError: What is said of the action does not fit together.
        """
        parts: dict[str, spaces.Space] = {
            name: spaces.Box(-np.inf, np.inf, (len(columns),), np.float32) for name, columns in self.observed.items()
        }
        if self.actions is None:
            low, high = (
                sign * np.inf if bound is None else bound
                for sign, bound in ((-1, self.action_low), (1, self.action_high))
            )
            if self.action_mask:
                raise ConfigError("An action of numbers has no action_mask.", "Give actions: how many there are.")
            acted: spaces.Space = spaces.Box(low, high, (len(self.acted),), np.float32)
        else:
            if not isinstance(self.action, str):
                raise ConfigError("Discrete actions are in one column.", "Name one column as action.")
            choices = self.actions if isinstance(self.actions, int) else len(self.actions)
            acted = spaces.Discrete(choices)
            if self.action_mask:
                if len(self.action_mask) != choices:
                    what = f"There are {len(self.action_mask)} columns of action_mask for {choices} actions."
                    raise ConfigError(what, "Name one for each action.")
                parts = {name or "observation": part for name, part in parts.items()}
                parts["action_mask"] = spaces.MultiBinary(choices)
        return parts[""] if list(parts) == [""] else spaces.Dict(parts), acted


def read_mapping(path: str | Path) -> Mapping:
    """The mapping in a YAML file.

    Raises:
        ConfigError: It cannot be read, or does not fit.
    """
    try:
        data = safe_load(read_text(Path(path), MAPPING_LIMIT))
        mapping = Mapping.model_validate(data)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        key = ".".join(str(part) for part in first["loc"])
        known = f"Known: {', '.join(Mapping.model_fields)}."
        fix = known if first["type"] in ("extra_forbidden", "missing", "model_type") else "See docs/datasets.md."
        raise ConfigError(f"'{key or path}' in the mapping '{path}' does not fit: {first['msg']}.", fix) from error
    except (OSError, Damaged, yaml.YAMLError, ValueError, RecursionError) as error:
        what = " ".join(str(error).split()) if isinstance(error, yaml.YAMLError) else reason(error)
        raise ConfigError(f"The mapping '{path}' cannot be read: {what}.", "Name a YAML file.") from error
    used = {*mapping.read()}
    for name, treatment in mapping.personal.items():
        numbers = {*chain(*mapping.observed.values()), *mapping.acted, mapping.reward}
        if treatment == "drop" and name in used:
            raise ConfigError(
                f"The personal column '{name}' is to be dropped and is mapped.", "Take it out of the rest."
            )
        if treatment == "hash" and name in numbers:
            raise ConfigError(
                f"'{name}' is a number that is learned from, and a hash is none.", "Drop it, or noise it."
            )
        if treatment not in ("drop", "hash") and name not in numbers - {mapping.episode, *mapping.groups}:
            raise ConfigError(f"'{name}' is no number that is learned from: noise has no effect.", "Drop or hash it.")
    return mapping
