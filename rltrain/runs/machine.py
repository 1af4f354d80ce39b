"""The facts about a machine and its software that a run records."""

from __future__ import annotations

import os
import platform
import shlex
import subprocess
import sys
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

from rltrain.distributed.ranks import job_name
from rltrain.storage.records import now


def describe_machine() -> dict[str, Any]:
    """The facts about this machine that a run records."""
    others = [name for name in ("stable_baselines3", "sb3_contrib") if name in sys.modules]
    job = job_name()
    return {
        **({} if job is None else {"job": job[0]}),
        "started": now(),
        "command": shlex.join([Path(sys.argv[0]).name, *sys.argv[1:]]),
        "versions": {**versions(), **{name: version(name) for name in others}},
        "platform": platform.platform(),
        "cpus": os.cpu_count(),
        "git_commit": _git("rev-parse", "HEAD"),
        "rltrain_commit": _own_commit(),
    }


def versions() -> dict[str, str]:
    """The versions of Python and of what training always uses."""
    packages = ("rltrain", "torch", "gymnasium", "numpy", "tensorboard")
    return {"python": platform.python_version(), **{name: version(name) for name in packages}}


def changed_since(metadata: Mapping[str, Any], before: Mapping[str, Any], mode: Mapping[str, Any]) -> list[str]:
    """What has changed since a run began on which its last bits depend, as phrases.

    Args:
        metadata: What the run recorded.
        before: The mode that it was trained in; what a run of an older version did not record is taken to be the same.
        mode: The mode that it goes on in.
    """
    recorded = metadata.get("versions")
    torch = recorded.get("torch") if isinstance(recorded, dict) else None
    names = [*before, *(name for name in mode if name not in before and name != "processor")]
    pairs = {name: (before.get(name, False), mode.get(name, False)) for name in names}
    if torch is not None:
        pairs["torch"] = torch, version("torch")
    words = {True: "on", False: "off"}
    return [
        f"{name} was {words.get(old, old)}, and is {words.get(new, new)}"
        for name, (old, new) in pairs.items()
        if old != new
    ]


def _own_commit() -> str | None:
    """The commit of rltrain itself, if it is used from a git checkout of its own."""
    here = Path(__file__).resolve()
    if _git("ls-files", here.name, folder=here.parent) is None:  # such as a virtual environment in somebody's checkout
        return None
    return _git("rev-parse", "HEAD", folder=here.parent)


def _git(*arguments: str, folder: Path | None = None) -> str | None:
    """What git answers in a folder, or in the working directory; None if it is in no checkout, or there is no git."""
    try:
        answer = subprocess.run(["git", *arguments], cwd=folder, capture_output=True, text=True, timeout=2, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return answer.stdout.strip() or None
