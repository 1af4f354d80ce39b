"""Questions for Scale as comparison tasks, and the answers to them. The only file that imports ``scaleapi``."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from rltrain.errors import ConfigError, DatasetError, RunError
from rltrain.naming import installed
from rltrain.preferences.answers import Answer
from rltrain.preferences.films import SIDES, film_of
from rltrain.preferences.folder import Preferences
from rltrain.storage.files import reason

KEY = "SCALE_API_KEY"
"""The environment variable with the key."""
CHOICES = {"left": "left", "right": "right", "equally good": "equal", "cannot say": "skip"}
"""The choices of a task, and what they mean here."""
LABELLER = "scale"
CALLBACK = "https://localhost.invalid/"
"""Where Scale would send answers; they are fetched instead."""


def client(api_url: str | None = None) -> Any:
    """A client of Scale's API.

    Args:
        api_url: Where the API is, if not at Scale.

    Raises:
        ConfigError: ``scaleapi`` is not installed, or there is no key.
    """
    installed.need("scaleapi", install="rltrain[scale]")
    key = os.environ.get(KEY)
    if not key:
        raise ConfigError("There is no key for Scale.", f"Set {KEY} to it.")
    from scaleapi import ScaleClient

    return ScaleClient(key, api_instance_url=api_url)


def send(
    prefs: Preferences, pairs: Sequence[str], scale: Any, *, project: str, base_url: str, question: str
) -> tuple[int, int]:
    """Makes a task for each question that has none, and returns how many it made and how many were there.

    Args:
        prefs: The preferences. Their films, as MP4, must be at ``base_url`` for Scale to see.
        pairs: The questions, by name.
        scale: From :func:`client`.
        project: The project there.
        base_url: What stands before the names of the films.
        question: What is asked.

    Raises:
        RunError: Scale refused, or cannot be reached.
    """
    from scaleapi.exceptions import ScaleDuplicateResource
    from scaleapi.tasks import TaskType

    made = 0
    for pair in pairs:
        with _errors():
            try:
                scale.create_task(
                    TaskType.Comparison,
                    project=project,
                    callback_url=CALLBACK,
                    instruction=question,
                    attachment_type="video",
                    attachments=[base_url + film_of(prefs, pair, side, ".mp4").name for side in SIDES],
                    choices=list(CHOICES),
                    unique_id=f"{folder_id(prefs)}-{pair}",
                    metadata={"pair": pair, "folder": folder_id(prefs)},
                )
                made += 1
            except ScaleDuplicateResource:
                continue
    return made, len(pairs) - made


def fetch(prefs: Preferences, scale: Any, *, project: str) -> list[Answer]:
    """The answers to completed tasks of this folder.

    Raises:
        DatasetError: An answer is none of the choices.
        RunError: Scale refused, or cannot be reached.
    """
    from scaleapi.tasks import TaskStatus, TaskType

    known = set(prefs.questions())
    found = []
    with _errors():
        for task in scale.get_tasks(project_name=project, task_type=TaskType.Comparison, status=TaskStatus.Completed):
            facts = task.as_dict()
            metadata, response = facts.get("metadata") or {}, facts.get("response") or {}
            if metadata.get("folder") != folder_id(prefs) or metadata.get("pair") not in known:
                continue
            choice = response.get("choice")
            if choice not in CHOICES:
                raise DatasetError(
                    f"The task '{task.id}' is answered with {str(choice)[:60]!r}.",
                    f"It is one of: {', '.join(CHOICES)}.",
                )
            found.append(Answer(str(metadata["pair"]), CHOICES[choice], LABELLER))
    return found


def folder_id(prefs: Preferences) -> str:
    """What tells the tasks of one folder from those of others: a checksum of the first round's episodes."""
    first = prefs.rounds()[0].facts["dataset"]
    return hashlib.sha256(str(first).encode()).hexdigest()[:12]


@contextmanager
def _errors() -> Iterator[None]:
    from scaleapi.exceptions import ScaleException

    try:
        yield
    except ScaleException as error:
        fix = f"Check {KEY}, the project and the connection; the same command goes on."
        raise RunError(f"Scale refused: {reason(error)[:300]}.", fix) from error
