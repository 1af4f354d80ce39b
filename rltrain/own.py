"""Classes of the user's own in a configuration: a run folder records their names, and nothing imports by them."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated, Any

from pydantic import BeforeValidator, PlainSerializer

from rltrain.errors import ConfigError

OWN = "own:"
"""Before the name of a class in ``config.yaml``."""


def _read(value: object) -> object:
    if isinstance(value, type) or (isinstance(value, str) and value.startswith(OWN)):
        return value
    raise ValueError("should be a class of your own, handed over in Python")


def _write(value: Any) -> str:
    return value if isinstance(value, str) else f"{OWN}{value.__name__}"


OwnClass = Annotated[Any, BeforeValidator(_read), PlainSerializer(_write, return_type=str)]
"""A class, or ``own:`` and the name of one that was not handed over, as a pydantic field type."""


def with_classes(data: Any, classes: Iterable[type]) -> Any:
    """Settings as they were saved, with the classes in the places where they are named."""
    by_name = {f"{OWN}{each.__name__}": each for each in classes}
    if isinstance(data, dict):
        return {key: with_classes(value, by_name.values()) for key, value in data.items()}
    return by_name.get(data, data) if isinstance(data, str) else data


def class_of(value: type | str) -> type:
    """The class itself.

    Raises:
        ConfigError: There is no more than its name.
    """
    if isinstance(value, str):
        name = value.removeprefix(OWN)
        raise ConfigError(
            f"The policy is made with the class '{name}', which a run folder names but does not hold.",
            f"Hand it over in Python: rltrain.load(run, classes=[{name}]), and the same for rltrain.resume.",
        )
    return value
