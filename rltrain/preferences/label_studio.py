"""Questions for Label Studio, and the answers that it exports.

A project has two videos and the control ``Pairwise``, on which people choose one of them; a second control is for those
who find them equal. Tasks that people skip there are skipped here.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote
from xml.sax.saxutils import quoteattr

from rltrain.errors import ConfigError, DatasetError
from rltrain.preferences.answers import Answer, check_labeller
from rltrain.preferences.films import SIDES, film_of, make_films
from rltrain.preferences.folder import Preferences
from rltrain.storage.files import MIB, Damaged, exists, read_bytes, read_text, reason, sync_directory, write_new
from rltrain.storage.making import making

CONFIG, TASKS, VIDEOS = "label_config.xml", "tasks.json", "videos"
LOCAL = "/data/local-files/?d="
"""The beginning of the addresses at which Label Studio serves files of its own machine."""
EQUAL, UNKNOWN = "equally good", "cannot say"
LIMIT = 64 * MIB
PREFIX = "label-studio:"


def config_of(question: str) -> str:
    """The labelling interface, for a project's settings."""
    return f"""<View>
  <Header value={quoteattr(question)}/>
  <View style="display: flex; gap: 1em">
    <View style="flex: 1"><Header value="Left" size="5"/><Video name="left" value="$left"/></View>
    <View style="flex: 1"><Header value="Right" size="5"/><Video name="right" value="$right"/></View>
  </View>
  <Pairwise name="preference" toName="left,right"/>
  <Choices name="otherwise" toName="left" choice="single" showInline="true">
    <Choice value="{EQUAL}"/>
    <Choice value="{UNKNOWN}"/>
  </Choices>
</View>
"""


def write_project(
    prefs: Preferences, pairs: Sequence[str], out: Path, *, question: str, base_url: str | None = None
) -> int:
    """Writes a folder with the interface, the tasks to import, and the videos; returns the number of tasks.

    Args:
        prefs: The preferences.
        pairs: The questions, by name.
        out: The folder to make.
        question: What is asked.
        base_url: What stands before the names of the videos in the tasks; by default that of Label Studio's local
            files, whose document root is then the folder that ``out`` is in.

    Raises:
        ConfigError: There are no questions, the folder is there, or cannot be made.
    """
    if not pairs:
        raise ConfigError("There is no open question.", "Ask some: rltrain preferences ask DIR RUN|ENV.")
    if exists(out):
        raise ConfigError(f"There is something at '{out}' already.", "Choose another place.")
    make_films(prefs, pairs, ending=".mp4", progress=True)
    base = f"{LOCAL}{quote(out.name)}/{VIDEOS}/" if base_url is None else base_url
    tasks = []
    try:
        with making(out) as aside:
            (aside / VIDEOS).mkdir()
            for pair in pairs:
                films = {side: film_of(prefs, pair, side, ".mp4") for side in SIDES}
                for film in films.values():
                    write_new(aside / VIDEOS / film.name, read_bytes(film, LIMIT))
                tasks.append({"data": {"pair": pair, **{side: base + film.name for side, film in films.items()}}})
            write_new(aside / CONFIG, config_of(question).encode())
            write_new(aside / TASKS, f"{json.dumps(tasks, indent=1)}\n".encode())
            sync_directory(aside)
            aside.rename(out)
    except (OSError, Damaged) as error:
        raise ConfigError(f"'{out}' cannot be written: {reason(error)}.", "Choose another place.") from error
    return len(tasks)


def read_export(file: Path, known: set[str]) -> list[Answer]:
    """The answers in an export as JSON, cancelled ones left out.

    Args:
        file: The export.
        known: The pairs that were asked about.

    Raises:
        DatasetError: It is no such export, or is about other pairs.
    """
    try:
        tasks = json.loads(read_text(file, LIMIT))
        if not isinstance(tasks, list):
            raise Damaged("it is no list of tasks")
        return [answer for number, task in enumerate(tasks) for answer in _answers(task, known, number)]
    except (OSError, Damaged, ValueError, RecursionError) as error:
        fix = "Export the project as JSON (not JSON-MIN), and name that file."
        raise DatasetError(f"'{file}' cannot be read: {reason(error)}.", fix) from error


def _answers(task: Any, known: set[str], number: int) -> list[Answer]:
    if not isinstance(task, dict) or not isinstance(task.get("data"), dict):
        raise Damaged(f"its task {number} has no data")
    pair, annotations = task["data"].get("pair"), task.get("annotations")
    if pair not in known:
        raise Damaged(f"its task {number} is of the pair {str(pair)[:40]!r}, which was not asked about here")
    if not isinstance(annotations, list):
        raise Damaged(f"its task {number} has no annotations")
    return [_answer(each, str(pair), number) for each in annotations]


def _answer(annotation: Any, pair: str, number: int) -> Answer:
    if not isinstance(annotation, dict) or not isinstance(annotation.get("result"), list):
        raise Damaged(f"an annotation of its task {number} has no result")
    who = annotation.get("completed_by")
    name = who.get("email") or who.get("id") if isinstance(who, dict) else who
    labeller = f"{PREFIX}{'unknown' if name is None else name}"
    try:
        check_labeller(labeller)
    except ConfigError as error:
        raise Damaged(f"{str(name)[:40]!r} is no name of a labeller") from error
    seconds = annotation.get("lead_time")
    taken = float(seconds) if isinstance(seconds, int | float) and 0 <= seconds < 1e7 else None
    if annotation.get("was_cancelled"):
        return Answer(pair, "skip", labeller, seconds=taken)
    said = [value for each in annotation["result"] if isinstance(each, dict) and (value := _said(each)) is not None]
    if len(set(said)) != 1:
        raise Damaged(f"an annotation of its task {number} says {' and '.join(sorted(set(said))) or 'nothing'}")
    return Answer(pair, said[0], labeller, seconds=taken)


def _said(result: dict[str, Any]) -> str | None:
    """What a control says; None for one that is not ours."""
    value = result.get("value")
    if not isinstance(value, dict):
        return None
    if result.get("type") == "pairwise" and value.get("selected") in SIDES:
        return str(value["selected"])
    if result.get("type") == "choices" and isinstance(value.get("choices"), list):
        return {EQUAL: "equal", UNKNOWN: "skip"}.get(str(next(iter(value["choices"]), None)))
    return None
