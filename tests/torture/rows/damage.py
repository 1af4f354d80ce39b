"""Row 3: damage to a run folder: one bit flipped, or a file cut, lengthened, removed or replaced."""

from __future__ import annotations

import json
import random
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path

from rltrain.runs.layout import list_checkpoints
from rltrain.trackers.event_files import records
from tests.torture.commands import STEPS, command, copy_of_run, evaluate, resume, trained
from tests.torture.frame import Case, Row

Damage = Callable[[bytes, random.Random], bytes | None]


def _flip(content: bytes, rng: random.Random) -> bytes:
    place = rng.randrange(len(content))
    return content[:place] + bytes([content[place] ^ 1 << rng.randrange(8)]) + content[place + 1 :]


DAMAGES: dict[str, Damage] = {
    "flip": _flip,
    "cut": lambda content, rng: content[: rng.randrange(len(content))],
    "lengthen": lambda content, rng: content + rng.randbytes(rng.choice((1, 100, 5_000))),
    "remove": lambda content, rng: None,
    "replace": lambda content, rng: rng.randbytes(len(content)),
}
WEIGHTS = (60, 10, 10, 10, 10)


def _files() -> list[Path]:
    """The files of a run that are read again, each kind about as often as the others."""
    run = trained()
    kept = [path for path in run.rglob("*") if path.is_file() and path.name not in (".lock", "learning_curve.png")]
    return [path.relative_to(run) for path in sorted(kept)]


def _case(name: Path, kind: str, seed: int) -> Case:
    def case(folder: Path) -> None:
        run = copy_of_run(folder)
        before = {path: path.read_bytes() for path in run.rglob("*") if path.is_file() and path.name != ".lock"}
        path, rng = run / name, random.Random(seed)
        damaged = DAMAGES[kind](before[path], rng)
        path.unlink() if damaged is None else path.write_bytes(damaged)
        _check(run, path, before, damaged)

    return case


def _check(run: Path, path: Path, before: dict[Path, bytes], damaged: bytes | None) -> None:
    newest = list_checkpoints(run / "checkpoints")[-1]
    checkpoint = path.parent if path.parent.name.startswith("step_") else None
    if checkpoint not in (None, newest):  # which nobody reads who does not ask for it
        said = command("eval", str(checkpoint), "--episodes", "1", "--device", "cpu")
        assert said.code == 4, said
        assert path.name in said.err, said.err
    if path.name == "best.json" and damaged is not None:
        said = command("eval", str(run), "--checkpoint", "best", "--episodes", "1", "--device", "cpu")
        assert said.code == 4, said
        assert path.name in said.err, said.err
    played, said = evaluate(run), resume(run)
    assert "rain anew" not in played.err + said.err
    if path.name == "config.yaml" and said.code:
        assert said.code == 4, said
        assert path.name in said.err, said.err
        assert path.name in played.err, played.err
        kept = (file for file in before if file.parent.name.startswith("step_"))
        assert all(file.read_bytes() == before[file] for file in kept)
        return
    assert (played.code, said.code) == (0, 0), said.err
    if checkpoint == newest or path.name in ("config.yaml", "metadata.json"):
        assert path.name in said.err, said.err
        assert path.name in played.err, played.err
    used = STEPS - 256 if checkpoint == newest else STEPS
    assert json.loads((run / "metadata.json").read_text())["resumed_at"] == [used]
    _nothing_is_destroyed(run, path, before, damaged, said.err)


def _nothing_is_destroyed(run: Path, path: Path, before: dict[Path, bytes], damaged: bytes | None, said: str) -> None:
    left = {file.read_bytes() for file in run.rglob("*") if file.is_file()}
    for file, content in before.items():
        if file != path and file.parent.name.startswith("step_"):
            assert content in left, f"{file.name} is gone"
    if path.name.startswith("events.") and damaged is not None:
        found = list(records(damaged))
        if any(event is None for _, event in found):
            assert path.name in said, said
            assert damaged in left
        now = b"".join(file.read_bytes() for file in run.glob("events.*"))
        kept = [record for record, event in found if event is not None and _stays(event)]
        assert all(record in now for record in kept)
    elif path.name == "progress.csv" and damaged is not None:
        lines = damaged.split(b"\n")[1:-1]
        now = (run / "progress.csv").read_bytes().split(b"\n")
        if lost := [line for line in lines if line and not any(row.startswith(line) for row in now)]:
            assert damaged in left, lost
            assert "progress.csv" in said, said
    elif (damaged and path.name in ("metadata.json", "manifest.json", "state.json")) or path.suffix == ".safetensors":
        assert damaged is None or damaged in left, "what was damaged is not kept"


def _stays(event: object) -> bool:
    """Whether an event is none of those that every session writes again."""
    tags = [value.tag for value in event.summary.value]  # type: ignore[attr-defined]
    return not any(tag == "config" or tag.startswith("_hparams_/") for tag in tags)


def cases(short: bool, rng: random.Random) -> Iterator[tuple[str, Case]]:
    """Faults at random places of random files."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        files = _files()
    for number in range(5 if short else 300):
        name, kind = rng.choice(files), rng.choices([*DAMAGES], WEIGHTS)[0]
        yield f"{number} {kind} {_generic(name)}", _case(name, kind, rng.randrange(2**32))


def _generic(name: Path) -> str:
    return "events" if name.name.startswith("events.") else str(name)


ROW = Row(
    3,
    "damage at random places of a run folder",
    "noticed, the right file named, the newest good state used, nothing destroyed",
    cases,
    seconds=90,
)
