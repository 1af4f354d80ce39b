"""Gathers the wheels that an offline machine with torch needs beside what it has: this project's, and a few others.

    python -m benchmarks.gpu.wheels wheels
    python -m benchmarks.gpu.wheels wheels --python 3.11 --platform manylinux_2_28_aarch64

Versions are those of constraints.txt. Such a machine has torch, NumPy, TensorBoard, matplotlib, Pillow, safetensors,
psutil, rich and PyYAML; imageio-ffmpeg, which rltrain names too, is for videos alone and stays at home.
"""

from __future__ import annotations

import argparse
import os
import shlex
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).parents[2]
LACKING = (
    "gymnasium",
    "farama-notifications",
    "cloudpickle",
    "pydantic",
    "pydantic-core",
    "annotated-types",
    "typing-inspection",
    "typing-extensions",
    "filelock",
)
"""What the machine lacks, and what that needs in turn."""
PRESENT = (
    "torch",
    "jax",
    "numpy",
    "tensorboard",
    "matplotlib",
    "pillow",
    "safetensors",
    "psutil",
    "rich",
    "pyyaml",
    "packaging",  # which TensorBoard and matplotlib need
)
"""What it has, with all that comes along with them."""
PLATFORMS = ("manylinux_2_28_x86_64", "manylinux_2_27_x86_64", "manylinux_2_17_x86_64", "manylinux2014_x86_64")
LIMIT = 64  # MiB


def main(arguments: Sequence[str] | None = None) -> int:
    """Fills the folder and says what is in it."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.gpu.wheels",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("folder", type=Path, help="where the wheels go")
    parser.add_argument("--python", default="3.12", help="version on the machine [3.12]")
    parser.add_argument("--platform", nargs="+", default=PLATFORMS, help="[Linux, x86-64, glibc 2.28 or newer]")
    parser.add_argument("--pip-args", default="", help="added to pip's, such as those that name an index of your own")
    parsed = parser.parse_args(arguments)
    parsed.folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as place:
        # A build folder of its own: modules that were moved since would still be in the one of an earlier build.
        config = Path(place) / "setup.cfg"
        config.write_text(f"[build]\nbuild_base = {place}/build\n")
        environment = {**os.environ, "DIST_EXTRA_CONFIG": str(config)}
        for command in commands(parsed.folder, parsed.python, parsed.platform, shlex.split(parsed.pip_args)):
            if subprocess.run(command, env=environment).returncode:
                print(f"There are not all wheels in '{parsed.folder}': pip failed, see above.", file=sys.stderr)
                return 1
    found = sorted(parsed.folder.glob("*.whl"))
    for wheel in found:
        print(f"{wheel.stat().st_size / 2**20:6.2f} MiB  {wheel.name}")
    total = sum(wheel.stat().st_size for wheel in found) / 2**20
    print(f"{total:6.2f} MiB  together")
    if total > LIMIT:
        print(f"More than {LIMIT} MiB: take out of '{parsed.folder}' what is left of older ones.", file=sys.stderr)
        return 1
    return 0


def commands(folder: Path, python: str, platforms: Sequence[str], pip_args: Sequence[str]) -> list[list[str]]:
    """What to run: pip builds the one wheel and downloads the others."""
    pip, to = [sys.executable, "-m", "pip"], ["--quiet", "--disable-pip-version-check", "--no-deps"]
    machine = ["--only-binary=:all:", "--implementation", "cp", "--python-version", python]
    machine += [word for platform in platforms for word in ("--platform", platform)]
    pins = ["--constraint", str(ROOT / "constraints.txt")]
    return [
        [*pip, "wheel", *to, *pip_args, "--wheel-dir", str(folder), str(ROOT)],
        [*pip, "download", *to, *pip_args, *machine, *pins, "--dest", str(folder), *LACKING],
    ]


if __name__ == "__main__":
    sys.exit(main())
