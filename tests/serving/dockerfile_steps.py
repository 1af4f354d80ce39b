"""Runs the steps of the Dockerfile in a fresh virtual environment: ``make test-dockerfile``.

    python tests/serving/dockerfile_steps.py FOLDER [PIP_ARGS]

FOLDER gets a virtual environment and a folder ``app``. COPY and the RUN with pip are done as they stand; FROM, USER and
useradd are not, because only Docker can do them. Then the service is started as ENTRYPOINT says, with a policy trained
for a moment, and asked for an action.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import urllib.request
from pathlib import Path

ROOT = Path(__file__).parents[2]


def steps(text: str) -> list[tuple[str, str]]:
    """The instructions of a Dockerfile: name and arguments."""
    lines = [line for line in text.replace("\\\n", " ").splitlines() if line.strip() and not line.startswith("#")]
    return [(name, rest) for name, _, rest in (line.partition(" ") for line in lines)]


def copy(sources: list[str], target: Path) -> None:
    """COPY: files into a folder, or a folder as another."""
    for source in sources:
        path = ROOT / source
        if path.is_dir() and not path.is_symlink():
            shutil.copytree(path, target, symlinks=True, ignore=shutil.ignore_patterns("__pycache__", "*.egg-info"))
        else:
            shutil.copy(path, target / source if target.is_dir() else target, follow_symlinks=False)


def main() -> None:
    """Runs them."""
    folder, pip_args = Path(sys.argv[1]).absolute(), " ".join(sys.argv[2:])
    shutil.rmtree(folder, ignore_errors=True)
    app, environment = folder / "app", folder / "venv"
    app.mkdir(parents=True)
    subprocess.run([sys.executable, "-m", "venv", environment], check=True)
    env = {**os.environ, "PATH": f"{environment / 'bin'}:{os.environ['PATH']}", "PIP_ARGS": pip_args}
    entry: list[str] = []
    for name, rest in steps((ROOT / "Dockerfile").read_text()):
        if name == "COPY":
            *sources, target = rest.split()
            copy(sources, app if target == "./" else app / target)
        elif name == "RUN" and rest.startswith("pip"):
            subprocess.run(rest, shell=True, cwd=app, env=env, check=True)
        elif name == "ENTRYPOINT":
            entry = json.loads(rest)
        elif name not in ("FROM", "ARG", "RUN", "WORKDIR", "USER", "EXPOSE", "CMD"):
            raise SystemExit(f"the Dockerfile has {name}, which is not tried here")
    train = "rltrain train ppo rltrain/CartPole-v1 --total-timesteps 256 --num-envs 4 --no-progress --run-dir runs"
    subprocess.run(train, shell=True, cwd=folder, env=env, check=True)
    run = next((folder / "runs").glob("*/ppo_1"))
    subprocess.run(["rltrain", "export", run, "--to", "onnx", "--out", folder / "policy.onnx"], env=env, check=True)
    (folder / "token").write_text("0123456789abcdef0123")
    command = [*entry, str(folder / "policy.onnx"), "--port", "0", "--token-file", str(folder / "token")]
    server = subprocess.Popen(command, env=env, stdout=subprocess.PIPE, text=True, cwd=folder)
    try:
        assert server.stdout is not None
        address = server.stdout.readline().split()[-1]
        headers = {"authorization": "Bearer 0123456789abcdef0123"}
        request = urllib.request.Request(f"{address}/predict", b'{"obs": [0, 0, 0, 0]}', headers)
        with urllib.request.urlopen(request, timeout=30) as response:
            print(response.read().decode())
    finally:
        server.terminate()
    if server.wait(30) != 0:
        raise SystemExit(f"the server ended with {server.returncode}")
    print("the steps of the Dockerfile work in a fresh virtual environment")


if __name__ == "__main__":
    main()
