"""``rltrain preferences export|import``."""

from __future__ import annotations

from pathlib import Path

from rltrain.cli.options import Parser
from rltrain.cli.output import say
from rltrain.errors import ConfigError, did_you_mean, plain

PLACES = ("label-studio", "scale")


def export(arguments: list[str]) -> int:
    """Writes the open questions for Label Studio, or sends them to Scale."""
    parser = Parser("preferences export", "Give the open questions to another labelling tool.")
    parser.add_argument("dir", metavar="DIR", help="folder of preferences")
    parser.add_argument("--to", metavar="|".join(PLACES), help="a folder for Label Studio; or tasks of Scale")
    parser.add_argument("--out", metavar="FOLDER", help="label-studio: the folder to make")
    what = "what stands before the names of the films in the tasks [label-studio: that of its local files]"
    parser.add_argument("--base-url", metavar="URL", help=what)
    parser.add_argument("--project", metavar="NAME", help="scale: the project there")
    parser.add_argument("--api-url", metavar="URL", help="scale: where its API is [that of Scale]")
    parser.add_argument("--question", metavar="TEXT", help="what is asked [Which clip is better?]")
    parser.add_argument("--all", action="store_true", help="also questions that were answered already")
    parsed = parser.parse(arguments)
    _check_place(parsed.to, "--to")

    from rltrain.preferences.folder import Preferences
    from rltrain.preferences.page import QUESTION

    prefs = Preferences.open(parsed.dir)
    answered = set() if parsed.all else {answer.pair for answer in prefs.answers.current()}
    pairs = [name for name in prefs.questions() if name not in answered]
    question = parsed.question or QUESTION
    if parsed.to == "label-studio":
        _refuse(parsed.project or parsed.api_url, "--project and --api-url are for Scale.")
        if parsed.out is None:
            raise ConfigError("It is not said where to write.", "Give --out FOLDER.")
        from rltrain.preferences.label_studio import CONFIG, TASKS, write_project

        out = Path(parsed.out)
        count = write_project(prefs, pairs, out, question=question, base_url=parsed.base_url)
        say(plain(f"{count:,} tasks in {out / TASKS}; the labelling interface is {out / CONFIG}"))
        return 0
    _refuse(parsed.out, "--out is for Label Studio.")
    if parsed.project is None or parsed.base_url is None:
        raise ConfigError(
            "It is not said for which project, or where Scale finds the films.", "Give --project and --base-url."
        )
    from rltrain.preferences import scale_ai
    from rltrain.preferences.films import make_films

    scale = scale_ai.client(parsed.api_url)
    make_films(prefs, pairs, ending=".mp4", progress=True)
    options = {"project": parsed.project, "base_url": parsed.base_url, "question": question}
    made, known = scale_ai.send(prefs, pairs, scale, **options)
    say(plain(f"{made:,} tasks made in {parsed.project}, {known:,} were there; films in {prefs.path / 'films'}"))
    return 0


def import_(arguments: list[str]) -> int:
    """Takes answers from Label Studio's export, or fetches them from Scale."""
    parser = Parser("preferences import", "Take answers that were given in another labelling tool.")
    parser.add_argument("dir", metavar="DIR", help="folder of preferences")
    parser.add_argument("file", metavar="FILE.json", nargs="?", help="label-studio: what it exported as JSON")
    parser.add_argument("--from", dest="origin", metavar="|".join(PLACES), help="where they were given [label-studio]")
    parser.add_argument("--project", metavar="NAME", help="scale: the project there")
    parser.add_argument("--api-url", metavar="URL", help="scale: where its API is [that of Scale]")
    parsed = parser.parse(arguments)
    origin = parsed.origin or "label-studio"
    _check_place(origin, "--from")

    from rltrain.preferences.folder import Preferences

    prefs = Preferences.open(parsed.dir)
    if origin == "label-studio":
        _refuse(parsed.project or parsed.api_url, "--project and --api-url are for Scale.")
        if parsed.file is None:
            raise ConfigError("It is not said which file.", "Name what Label Studio exported as JSON.")
        from rltrain.preferences.label_studio import read_export

        answers = read_export(Path(parsed.file), set(prefs.questions()))
    else:
        _refuse(parsed.file, "A file is of Label Studio.")
        if parsed.project is None:
            raise ConfigError("It is not said which project.", "Give --project NAME.")
        from rltrain.preferences import scale_ai

        answers = scale_ai.fetch(prefs, scale_ai.client(parsed.api_url), project=parsed.project)
    added = prefs.answers.take(answers)
    say(plain(f"{added:,} answers added, {len(answers) - added:,} were there already"))
    return 0


def _check_place(place: str | None, option: str) -> None:
    listed = f"Give {option} {' or '.join(PLACES)}."
    if place is None:
        raise ConfigError("It is not said what for.", listed)
    if place not in PLACES:
        raise ConfigError(f"There is no '{option} {place}'.", did_you_mean(place, PLACES, listed))


def _refuse(given: object, why: str) -> None:
    if given is not None:
        raise ConfigError(why, "Leave it out.")
