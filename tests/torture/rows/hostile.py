"""Row 8: files that somebody else made to do harm."""

from __future__ import annotations

import functools
import io
import json
import os
import random
import re
import shutil
import socket
import struct
import sys
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path

import torch
import yaml

from tests.forging import WRONG, Place, forge, places
from tests.torture.commands import (
    ENV,
    STEPS,
    bounded_memory,
    command,
    contents,
    copy_of_run,
    evaluate,
    kept_folder,
    resume,
    trained,
)
from tests.torture.frame import Case, Row
from tests.torture.hostile_places import LINES, forgeries, harms, made, meet

Harm = Callable[[Path, Path], None]  # of a run folder, with a folder outside

LATEST = f"checkpoints/step_{STEPS:012d}"
NEXT = f"checkpoints/step_{STEPS + 256:012d}"
FILES = (
    *("config.yaml", "metadata.json", "progress.csv", ".lock", "checkpoints/best.json"),
    *(f"{LATEST}/{name}" for name in ("manifest.json", "state.json", "policy.safetensors", "training.safetensors")),
)
LYING_IN_WAIT = (
    *(".progress.csv.tmp", ".metadata.json.writing", ".metadata.json.tmp", "checkpoints/.best.json.writing"),
    *("learning_curve.png", ".learning_curve.png.tmp", f"checkpoints/.writing-{STEPS + 256}", NEXT),
    *("checkpoints/superseded_1", "damaged_1_progress.csv", "damaged_1_metadata.json", "checkpoints/.pruned-1"),
)
ESCAPE = "\x1b]0;owned\x07\x1b[2J"


def _replace(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        path.rename(path.with_name("was_" + path.name))
    path.unlink(missing_ok=True)


def _path(run: Path, name: str) -> Path:
    """A file of a run; the event file, whose name tells when it was made, is called ``events``."""
    return next(run.glob("events.out.tfevents.*")) if name == "events" else run / name


def link(name: str, to: str = "file", keep: bool = False) -> Harm:
    """Puts a link to something outside in the place of a file; with ``keep`` to a copy of that file."""

    def do(run: Path, outside: Path) -> None:
        path = _path(run, name)
        target = outside / to
        if keep:
            target = outside / "kept"
            path.rename(target)
        _replace(path)
        path.symlink_to(target)

    return do


def special(name: str, kind: str) -> Harm:
    """A pipe, socket or link to a device in the place of a file."""

    def do(run: Path, outside: Path) -> None:
        path = _path(run, name)
        _replace(path)
        if kind == "pipe":
            os.mkfifo(path)
        elif kind == "socket":
            here = os.getcwd()
            os.chdir(path.parent)  # the name of a socket may have 107 bytes
            socket.socket(socket.AF_UNIX).bind(path.name)
            os.chdir(here)
        else:
            path.symlink_to(kind)

    return do


def content(name: str, data: bytes | str | Callable[[Path], bytes]) -> Harm:
    """Other content in a file."""

    def do(run: Path, outside: Path) -> None:
        path = _path(run, name)
        made = data(path) if callable(data) else data
        path.write_bytes(made.encode() if isinstance(made, str) else made)

    return do


def sparse(name: str, size: int) -> Harm:
    """A file of an immense size that takes no room, which the manifest gives as its own."""

    def do(run: Path, outside: Path) -> None:
        path = _path(run, name)
        os.truncate(path, size)
        manifest = path.parent / "manifest.json"
        if manifest.exists() and path != manifest:
            listed = json.loads(manifest.read_text())
            del listed["checksum"]
            listed["files"][path.name]["bytes"] = size
            manifest.write_text(json.dumps(listed))

    return do


def listing(name: str) -> Harm:
    """A manifest without a checksum that lists one more file."""

    def do(run: Path, outside: Path) -> None:
        path = run / LATEST / "manifest.json"
        manifest = json.loads(path.read_text())
        del manifest["checksum"]
        manifest["files"][name] = {"bytes": 0, "sha256": "e3b0c442"}
        path.write_text(json.dumps(manifest))
        if name == "pipe":
            os.mkfifo(run / LATEST / name)

    return do


def configured(change: Callable[[dict], object]) -> Harm:
    """A changed configuration."""

    def do(run: Path, outside: Path) -> None:
        config = yaml.safe_load((run / "config.yaml").read_text())
        change(config)
        (run / "config.yaml").write_text(yaml.safe_dump(config))

    return do


def recorded(**changes: object) -> Harm:
    """Changed metadata without a checksum."""

    def do(run: Path, outside: Path) -> None:
        metadata = json.loads((run / "metadata.json").read_text())
        del metadata["checksum"]
        (run / "metadata.json").write_text(json.dumps({**metadata, **changes}))

    return do


def named(*names: str, folder: bool = True) -> Harm:
    """Further entries with odd names."""

    def do(run: Path, outside: Path) -> None:
        for name in names:
            if folder:
                (run / name).mkdir(exist_ok=True)
            else:
                (run / name).write_bytes(b"x")

    return do


def deep(start: str, end: str, inside: str = "1", levels: int = 200_000) -> str:
    """A text with many levels."""
    return start * levels + inside + end * levels


def safetensors_header(length: int, header: bytes = b"{}") -> bytes:
    """A file of tensors with a header of its own."""
    return struct.pack("<Q", length) + header


def shadowing(run: Path, outside: Path) -> None:
    """A file of tensors that the manifest knows, with a header of 80 MB."""
    path = run / LATEST / "policy.safetensors"
    header = b'{"' + b"x" * 80_000_000 + b'":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}'
    path.write_bytes(safetensors_header(len(header), header) + b"1234")
    sparse(f"{LATEST}/policy.safetensors", path.stat().st_size)(run, outside)


BOMB = "a: &a [x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"{chr(98 + i)}: &{chr(98 + i)} [{', '.join(['*' + chr(97 + i)] * 9)}]\n" for i in range(12)
)
MERGES = "a: &a {x: 1}\n" + "".join(
    f"{chr(98 + i)}: &{chr(98 + i)}\n  <<: [{', '.join(['*' + chr(97 + i)] * 9)}]\n" for i in range(12)
)

HARMS: dict[str, Harm] = {
    **{f"link {name}": link(name) for name in (*FILES, "events")},
    **{f"link to its own content {name}": link(name, keep=True) for name in FILES if name != ".lock"},
    **{f"dangling link {name}": link(name, "nothing") for name in (*FILES, *LYING_IN_WAIT)},
    **{f"in wait {name}": link(name) for name in LYING_IN_WAIT},
    **{f"link to a folder {name}": link(name, "folder") for name in ("checkpoints", "videos", LATEST, NEXT)},
    "checkpoints elsewhere": link("checkpoints", keep=True),
    "newest checkpoint elsewhere": link(LATEST, keep=True),
    **{f"pipe {name}": special(name, "pipe") for name in (*FILES, "events")},
    **{f"socket {name}": special(name, "socket") for name in ("progress.csv", "metadata.json", f"{LATEST}/state.json")},
    **{f"device {name}": special(name, "/dev/zero") for name in (*FILES, "events")},
    **{f"tty {name}": special(name, "/dev/tty") for name in ("config.yaml", f"{LATEST}/manifest.json")},
    **{
        f"listed {name!r}": listing(name) for name in ("/dev/zero", "../../../../outside/file", "pipe", "..", "", "a/b")
    },
    "listed with an escape": listing(ESCAPE),
    **{f"sparse, 60 GB, {name}": sparse(name, 60 * 2**30) for name in FILES if name.startswith(LATEST)},
    **{f"sparse {name}": sparse(name, 2**40) for name in (*FILES, "events") if name != ".lock"},
    **{
        f"a folder as {name}": lambda run, outside, name=name: (_replace(run / name), (run / name).mkdir())
        for name in FILES
    },
    "manifest nested": content(f"{LATEST}/manifest.json", deep('{"a":', "}")),
    "manifest in lists": content(f"{LATEST}/manifest.json", '{"files":' + deep("[", "]", levels=500) + "}"),
    "metadata nested": content("metadata.json", deep("[", "]")),
    "metadata in dicts": content("metadata.json", deep('{"a":', "}", levels=900)),
    "best nested": content("checkpoints/best.json", deep('{"step":', "}")),
    "yaml nested": content("config.yaml", deep("[", "]", levels=20_000)),
    "yaml nested by indentation": content("config.yaml", "".join(" " * i + "a:\n" for i in range(400))),
    "yaml aliases": content("config.yaml", BOMB),
    "yaml merges": content("config.yaml", MERGES),
    "yaml that refers to itself": content("config.yaml", "algo: &a [*a]\nenv: x\n"),
    "yaml object": content("config.yaml", "algo: !!python/object/apply:os.system ['touch OUTSIDE/owned']\nenv: x\n"),
    "yaml name": content("config.yaml", "algo: !!python/name:os.system\nenv: x\n"),
    "yaml module": content("config.yaml", "algo: !!python/module:antigravity\nenv: x\n"),
    "yaml number": content("config.yaml", f"algo: ppo\nenv: x\nseed: {'9' * 100_000}\n"),
    "yaml in bytes": content("config.yaml", b"\xff\xfe\x00algo: ppo"),
    "environment with code": configured(lambda config: config["env"].update(id="os:Id-v0")),
    "agent with code": configured(lambda config: config.update(algo="os:system")),
    "escape in the agent": configured(lambda config: config.update(algo=f"ppo{ESCAPE}")),
    "escape in the environment": configured(lambda config: config["env"].update(id=f"{ESCAPE}-v0")),
    "mathematics in the environment": configured(lambda config: config["env"].update(id="$\\frac{$")),
    "networks of a terabyte": configured(
        lambda config: config["agent"]["policy_kwargs"].update(net_arch=[500_000] * 2)
    ),
    "a class": configured(
        lambda config: config["agent"]["policy_kwargs"].update(features_extractor_class="own:os.system")
    ),
    "space of a terabyte": recorded(
        observation_space={"type": "Box", "shape": [2**20, 2**20], "dtype": "float32", "low": 0, "high": 1}
    ),
    "space of objects": recorded(
        observation_space={"type": "Box", "shape": [2], "dtype": "object", "low": 0, "high": 1}
    ),
    "space without end": recorded(action_space={"type": "Discrete", "n": 2**62, "start": 0}),
    "spaces in a text": recorded(observation_space="Box", mode=3),
    "spaces in spaces": recorded(
        observation_space=json.loads(deep('{"type":"Tuple","spaces":[', "]}", '{"type":"x"}', 40))
    ),
    "escape in the metadata": recorded(status=ESCAPE, mode={ESCAPE: ESCAPE}),
    "header of 2**62 bytes": content(f"{LATEST}/policy.safetensors", safetensors_header(2**62)),
    "header of 80 MB": shadowing,
    "pickle for tensors": content(f"{LATEST}/policy.safetensors", b"\x80\x04cposix\nsystem\n(S'touch owned'\ntR."),
    "steps that are none": named(*(f"checkpoints/step_{x}" for x in ("²", "٣", "1", "-1", "9" * 200, "x", "1e3"))),
    "names with escapes": named(f"checkpoints/step_{ESCAPE.replace('/', '')}", f"checkpoints/superseded_{ESCAPE}"),
    "names that are no text": named(
        os.fsdecode(b"checkpoints/step_\xff"), os.fsdecode(b"\xfe"), "checkpoints/superseded_²"
    ),
    "odd event files": named(
        "events.out.tfevents.9xyz", "events.out.tfevents.²", "events.out.tfevents." + "9" * 100, folder=False
    ),
    "folders as event files": named("events.out.tfevents.9999999999.x"),
    "event of 2**60 bytes": content(
        "events", lambda path: path.read_bytes() + struct.pack("<QI", 2**60, 0) + b"x" * 100
    ),
    "zeros for events": content("events", bytes(2**22)),
    "noise for events": content("events", lambda path: random.Random(0).randbytes(2**21)),
    "csv header that is a command": content("progress.csv", "$(touch owned);`touch owned`,=cmd|' /C calc'!A0\n1,2\n"),
    "csv header with escapes": content("progress.csv", f"time/total_timesteps,{ESCAPE}\n256,1\n"),
    "csv of a million columns": content("progress.csv", "time/total_timesteps," + "a," * 1_000_000 + "\n1\n"),
    "csv with a long cell": content("progress.csv", 'time/total_timesteps,"' + "a" * 10_000_000 + '"\n256,1\n'),
    "csv with zeros": content("progress.csv", bytes(100_000)),
    "csv numbers": content("progress.csv", "time/total_timesteps,a\n" + "9" * 100_000 + ",1\n²,1\n256,nan\n"),
}


def _zip(members: dict[str, bytes | int], compress: bool = True) -> bytes:
    """An archive; a number stands for as many zeros, which are never all in memory."""
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w", zipfile.ZIP_DEFLATED if compress else zipfile.ZIP_STORED) as archive:
        for name, data in members.items():
            with archive.open(name, "w", force_zip64=True) as file:
                for _ in range(data // 2**20 if isinstance(data, int) else 0):
                    file.write(bytes(2**20))
                file.write(b"" if isinstance(data, int) else data)
    return made.getvalue()


class Owned:
    """Runs code where it is unpickled."""

    def __reduce__(self) -> tuple[object, ...]:
        return exec, ("import sys; sys.owned = True",)


def _tensors() -> bytes:
    made = io.BytesIO()
    torch.save({"x": torch.zeros(2)}, made)
    return made.getvalue()


def _pickled() -> bytes:
    made = io.BytesIO()
    torch.save(Owned(), made)
    return made.getvalue()


ARCHIVES: dict[str, Callable[[], bytes]] = {
    "data of two gigabytes": lambda: _zip({"data": 2**31}),
    "tensors of two gigabytes": lambda: _zip({"data": b"{}", "policy.pth": 2**31}),
    "an archive in tensors": lambda: _zip({"data": b"{}", "policy.pth": _zip({"archive/data.pkl": 2**31})}, False),
    "data nested": lambda: _zip({"data": deep("[", "]").encode()}, False),
    "code for tensors": lambda: _zip({"data": b"{}", "policy.pth": _pickled()}, False),
    "code for variables": lambda: _zip(
        {"data": b"{}", "policy.pth": _tensors(), "pytorch_variables.pth": _pickled()}, False
    ),
    "names outside": lambda: _zip({"data": b"{}", "../../owned.pth": _tensors(), "/owned.pth": _tensors()}, False),
    "a mass of members": lambda: _zip({"data": b"{}", **{f"{i}.pth": b"" for i in range(110_000)}}, False),
    "words nested": lambda: _zip(
        {"data": json.dumps({"policy_kwargs": {"net_arch": "[" * 100_000}}).encode(), "policy.pth": _tensors()}, False
    ),
    "an escape": lambda: _zip(
        {"data": json.dumps({"policy_class": {"__module__": ESCAPE}}).encode(), "policy.pth": _tensors()}, False
    ),
    "no data": lambda: _zip({"policy.pth": _tensors()}),
    "cut": lambda: _zip({"data": b"{}", "policy.pth": _tensors()})[:-30],
    "nothing": lambda: b"",
}


def _outside(folder: Path) -> Path:
    outside = folder / "outside"
    for name in ("episodes", "runs", "checkpoints"):
        (outside / "folder" / name).mkdir(parents=True)
        (outside / "folder" / name / "file").write_bytes(b"do not touch")
    (outside / "file").write_bytes(b"do not touch")
    return outside


def _harmless(folder: Path, outside: Path, *commands: Callable[[], object]) -> None:
    """Whatever becomes of the commands: nothing outside is changed, and no code is run."""
    before = contents(outside), sorted(path.name for path in folder.iterdir())
    os.chdir(folder)
    with bounded_memory():
        for each in commands:
            each()
    assert (contents(outside), sorted(path.name for path in folder.iterdir())) == before, (
        "something outside was changed"
    )
    assert not hasattr(sys, "owned"), "code was run"


def _case(harm: Harm) -> Case:
    def case(folder: Path) -> None:
        outside, run = _outside(folder), copy_of_run(folder)
        harm(run, outside)
        film = folder / "runs" / "film.gif"
        _harmless(
            folder,
            outside,
            lambda: evaluate(run),
            lambda: command("eval", str(run), "--episodes", "1", "--checkpoint", "best", "--device", "cpu"),
            lambda: command("plot", str(run)),
            lambda: resume(run),
            lambda: command(
                "train",
                "ppo",
                ENV,
                "--init-from",
                str(run),
                "--run-dir",
                str(folder / "runs"),
                "--total-timesteps",
                "64",
                "--num-envs",
                "4",
                "--agent.n-steps",
                "16",
                "--agent.batch-size",
                "64",
                "--no-progress",
                "--device",
                "cpu",
                "--n-eval-episodes",
                "0",
            ),
            lambda: command("watch", str(run), "--out", str(film), "--device", "cpu") if not film.exists() else None,
        )

    return case


def _archive(make: Callable[[], bytes]) -> Case:
    def case(folder: Path) -> None:
        outside, runs = _outside(folder), folder / "runs"
        runs.mkdir()
        (runs / "model.zip").write_bytes(make())
        _harmless(
            folder,
            outside,
            lambda: command("import-sb3", str(runs / "model.zip"), "--env", ENV, "--run-dir", str(runs)),
        )

    return case


def _piped(folder: Path) -> None:
    outside, runs = _outside(folder), folder / "runs"
    runs.mkdir()
    os.mkfifo(runs / "model.zip")
    _harmless(
        folder, outside, lambda: command("import-sb3", str(runs / "model.zip"), "--env", ENV, "--run-dir", str(runs))
    )


def _work(folder_of: str, harm: Harm) -> Case:
    """Harm to what other verbs read."""

    def case(folder: Path) -> None:
        outside, here = _outside(folder), Path(shutil.copytree(_made(), folder / "place", symlinks=True))
        harm(here, outside)
        _harmless(folder, outside, *meet(here, folder_of))

    return case


@functools.cache
def _made() -> Path:
    return made(kept_folder("torture-hostile-") / "place")


def _forged(file: str, place: Place, value: object) -> Case:
    def case(folder: Path) -> None:
        run = copy_of_run(folder)
        forge(run, file, place, value)
        for said in (evaluate(run), resume(run)):
            assert said.code in (0, 2, 4), f"left with {said.code}: {said.err}"

    return case


def cases(short: bool, rng: random.Random) -> Iterator[tuple[str, Case]]:
    """All harms, or a few of every kind."""
    trained()
    every = {name: _case(harm) for name, harm in HARMS.items()}
    every |= {f"archive: {name}": _archive(make) for name, make in ARCHIVES.items()}
    every["archive: a pipe"] = _piped
    for file, place in rng.sample([*places(trained())], 60):
        value = rng.choice(WRONG)
        every[f"forged {file} {place} {value!r}"] = _forged(file, place, value)
    for folder, name, harm in (*harms(), *forgeries(_made(), rng, 3 if short else 30)):
        every[f"{folder}: {name}"] = _work(folder, harm)
    chosen = sorted(rng.sample([*every], 5)) if short else [*every]
    for name in chosen:
        yield name, every[name]


ROW = Row(
    8,
    "hostile files",
    "no code, no write outside, no hang, memory bounded",
    cases,
    {"^forged": 20, rf"^({'|'.join(map(re.escape, LINES))}|exported): ": 70, "^": 90},
    seconds=90,
)
