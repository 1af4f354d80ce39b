"""Dataset cards: where the data came from and what may be done with it, in Hugging Face's schema.

The keys above ``source_data`` are those of the metadata of Hugging Face's dataset cards
(https://huggingface.co/docs/hub/datasets-cards); the texts below have the names of the sections of its template.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from rltrain.data.layout import CARD
from rltrain.errors import DatasetError, did_you_mean
from rltrain.storage.files import Damaged, exists, read_text, reason, write_atomically
from rltrain.storage.yaml_text import safe_load

CARD_LIMIT = 2**20
REQUIRED = {
    "license": "the licence, such as cc-by-4.0, or proprietary",
    "source_data": "where the data came from",
    "consent": "on what ground people's data is used, or that there is none of people",
    "personal_and_sensitive_information": "what of it is about people",
    "bias_risks_and_limitations": "what is known to be biased or missing in it",
}
"""What an export asks for, and what each is."""


class DatasetCard(BaseModel):
    """The card of a dataset. Texts that nobody has written are empty."""

    model_config = ConfigDict(extra="forbid")

    pretty_name: str = ""
    license: str = ""
    language: list[str] = Field(default_factory=list)
    tags: list[str] = Field(default_factory=lambda: ["reinforcement-learning"])
    task_categories: list[str] = Field(default_factory=lambda: ["reinforcement-learning"])
    size_categories: list[str] = Field(default_factory=list)
    annotations_creators: list[str] = Field(default_factory=list)
    source_datasets: list[str] = Field(default_factory=list)
    source_data: str = ""
    consent: str = ""
    personal_and_sensitive_information: str = ""
    bias_risks_and_limitations: str = ""
    personal_columns: list[dict[str, Any]] = Field(default_factory=list)
    deletions: list[dict[str, Any]] = Field(default_factory=list)
    privacy: list[dict[str, Any]] = Field(default_factory=list)

    def missing(self) -> list[str]:
        """The names of the entries that an export asks for and nobody has written."""
        return [name for name in REQUIRED if not getattr(self, name).strip()]

    def check(self, where: Path) -> None:
        """Checks that all is there that an export asks for.

        Raises:
            DatasetError: Something is not.
        """
        if missing := self.missing():
            what = "; ".join(f"{name}: {REQUIRED[name]}" for name in missing)
            raise DatasetError(f"The card '{where}' lacks {', '.join(missing)}.", f"Write it there ({what}).")

    def as_readme(self, name: str) -> str:
        """The card as the README.md of a dataset on the Hugging Face Hub."""
        entries = {key: value for key, value in self.model_dump().items() if value}
        texts = {key: entries.pop(key) for key in list(REQUIRED)[1:] if key in entries}
        body = "".join(f"\n## {key.replace('_', ' ').capitalize()}\n\n{text.strip()}\n" for key, text in texts.items())
        return f"---\n{_yaml(entries)}---\n\n# Dataset Card for {self.pretty_name or name}\n{body}"


def read_card(folder: Path) -> DatasetCard:
    """The card of a dataset; an empty one if there is none.

    Raises:
        DatasetError: It cannot be read.
    """
    path = folder / CARD
    try:
        if not exists(path):
            return DatasetCard()
        return DatasetCard.model_validate(safe_load(read_text(path, CARD_LIMIT)) or {})
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        key = ".".join(map(str, first["loc"]))
        fix = did_you_mean(key, DatasetCard.model_fields, f"Known: {', '.join(DatasetCard.model_fields)}.")
        fix = fix if first["type"] == "extra_forbidden" else f"{first['msg']}."
        raise DatasetError(f"The card '{path}' has an entry '{key}' that does not fit.", fix) from error
    except (OSError, Damaged, yaml.YAMLError, ValueError, RecursionError) as error:
        what = " ".join(str(error).split()) if isinstance(error, yaml.YAMLError) else reason(error)
        raise DatasetError(f"The card '{path}' cannot be read: {what}.", "Mend it: it is YAML.") from error


def write_card(path: Path, card: DatasetCard) -> None:
    """Writes a card.

    Raises:
        OSError: It cannot be written.
    """
    missing = "".join(f"#   {name}: {REQUIRED[name]}\n" for name in card.missing())
    head = f"# Asked for before an export:\n{missing}" if missing else ""
    write_atomically(path, head + _yaml(card.model_dump()))


def note_privacy(folder: Path, entry: dict[str, Any]) -> None:
    """Writes into the card of a dataset what a run has spent of its privacy; an entry of the same run is replaced.

    Raises:
        DatasetError: The card cannot be read.
        OSError: It cannot be written.
    """
    card = read_card(folder)
    card.privacy = [each for each in card.privacy if each.get("run") != entry["run"]] + [entry]
    write_card(folder / CARD, card)


def size_category(steps: int) -> str:
    """Hugging Face's name for a number of rows."""
    names = ("n<1K", "1K<n<10K", "10K<n<100K", "100K<n<1M", "1M<n<10M", "10M<n<100M", "100M<n<1B")
    return next((name for power, name in enumerate(names, 3) if steps < 10**power), "n>1B")


def _yaml(data: dict[str, Any]) -> str:
    return yaml.safe_dump(data, sort_keys=False, allow_unicode=True, width=100)
