"""A virtual environment for each peer, made once and kept under ``.venv-bench``."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

from benchmarks.peers import OTHERS, PEERS, Peer

ROOT = Path(__file__).parents[1]
FOLDER = ROOT / ".venv-bench"
ERROR = re.compile(r"^\s*(?:[\w.]+(?:Error|Exception): |ERROR: |error: )(.+)")


def python_of(name: str, *, pip_args: str = "", renew: bool = False) -> tuple[str, str]:
    """The Python of a peer, installed if necessary, or the reason why there is none.

    One of the two is empty. A peer that could not be installed is not tried again until its requirements change or
    ``renew`` says so.
    """
    peer = {**OTHERS, **PEERS}[name]
    if not peer.requirements:
        return sys.executable, ""
    folder = FOLDER / name
    state: dict[str, Any] = {"requirements": [*peer.requirements, *torch_pin()], "reason": ""}
    FOLDER.mkdir(exist_ok=True)
    stamp = FOLDER / f"{name}.json"
    kept = json.loads(stamp.read_text()) if stamp.exists() and not renew else {}
    if kept.get("requirements") != state["requirements"]:
        state["reason"] = install(peer, folder, pip_args)
        stamp.write_text(json.dumps(state, indent=1) + "\n")
        kept = state
    return ("", kept["reason"]) if kept["reason"] else (str(folder / "bin" / "python"), "")


def install(peer: Peer, folder: Path, pip_args: str) -> str:
    """Makes the virtual environment anew. If that fails, it returns the reason and leaves nothing behind."""
    print(f"installing {' '.join(peer.requirements)}", file=sys.stderr, flush=True)
    shutil.rmtree(folder, ignore_errors=True)
    constraints = folder.parent / "constraints.txt"
    constraints.write_text("\n".join(torch_pin()) + "\n")
    pip = [str(folder / "bin" / "python"), "-m", "pip", "install", "-q"]
    pins = {"PIP_CONSTRAINT": str(constraints), "PIP_BUILD_CONSTRAINT": str(constraints)}  # builds may need torch too
    for command in ([sys.executable, "-m", "venv", str(folder)], [*pip, *shlex.split(pip_args), *peer.requirements]):
        done = subprocess.run(
            command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env={**os.environ, **pins}
        )
        if done.returncode:
            shutil.rmtree(folder, ignore_errors=True)
            return reason_in(done.stdout)
    return ""


def torch_pin() -> list[str]:
    """The version of torch for every peer, which is ours."""
    return re.findall(r"^torch==.*$", (ROOT / "constraints.txt").read_text(), flags=re.MULTILINE)


def reason_in(output: str) -> str:
    """The line of an output that says best what went wrong: the exception first raised last, else pip's own error."""
    lines = output.splitlines()
    errors = [line.strip() for line in lines if ERROR.match(line)]
    exceptions = [line for line in errors if not line.lower().startswith("error")]
    return (exceptions or errors or [line.strip() for line in lines if line.strip()] or ["no output"])[-1][:200]
