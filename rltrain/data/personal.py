"""What becomes of columns about people when data come in: dropped, replaced by keyed hashes, or noised.

A hash is HMAC-SHA256 with a key that stays outside the dataset: whoever has the key can still tell who it is, nobody
else can by trying all names. It is a pseudonym, not anonymity.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from rltrain.errors import ConfigError
from rltrain.storage.files import Damaged, read_bytes, reason

KEY_BYTES = 16
"""The shortest key."""


class Noise(BaseModel):
    """Normal noise with this standard deviation, added to a number once, when it is imported."""

    model_config = ConfigDict(extra="forbid")

    noise: Annotated[float, Field(gt=0.0, allow_inf_nan=False)]


Treatment = Literal["drop", "hash"] | Noise


def read_key(path: str | Path | None) -> bytes | None:
    """The key in a file, without the end of its line.

    Raises:
        ConfigError: It cannot be read, or is too short to withstand guessing.
    """
    if path is None:
        return None
    try:
        key = read_bytes(Path(path), 2**16).strip()
    except (OSError, Damaged) as error:
        raise ConfigError(f"The key '{path}' cannot be read: {reason(error)}.", "Name a file with a key.") from error
    if len(key) < KEY_BYTES:
        raise ConfigError(
            f"The key in '{path}' has {len(key)} bytes, and {KEY_BYTES} are the fewest.",
            'Make one: python -c "import secrets; print(secrets.token_hex(32))" > FILE',
        )
    return key


def pseudonym(value: str, key: bytes) -> str:
    """The keyed hash of a value: 128 bits of HMAC-SHA256 in hexadecimal."""
    return hmac.new(key, value.encode(), hashlib.sha256).hexdigest()[:32]


def noised(values: np.ndarray, noise: float, rng: np.random.Generator) -> np.ndarray:
    """Numbers with normal noise of this standard deviation, of the same type."""
    return (values + rng.normal(0.0, noise, values.shape)).astype(values.dtype)


def recorded(personal: Mapping[str, Treatment]) -> list[dict[str, Any]]:
    """What a card says of the columns."""
    entries: list[dict[str, Any]] = []
    for name, treatment in personal.items():
        if isinstance(treatment, Noise):
            entries.append({"column": name, "treatment": "noise", "standard_deviation": treatment.noise})
        else:
            entries.append({"column": name, "treatment": {"drop": "dropped", "hash": "keyed hash"}[treatment]})
    return entries
