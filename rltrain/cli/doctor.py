"""``rltrain doctor``: what there is on this machine that training depends on, and what is missing."""

from __future__ import annotations

import json
import platform
import shutil
from importlib import metadata
from pathlib import Path
from typing import Any

from rltrain.cli.options import Parser
from rltrain.cli.output import say
from rltrain.cli.tables import entries, size

SHARED_MEMORY = Path("/dev/shm")
LEAST_SHARED = 2**28
"""Bytes of shared memory below which workers and ranks soon fail; containers often have 64 MB."""


def main(arguments: list[str]) -> int:
    """Prints the facts, and what to do about those that stand in the way."""
    parser = Parser("doctor", "Show what training depends on here: versions, processor, devices, compiler, extras.")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parsed = parser.parse(arguments)
    facts: dict[str, Any] = {"machine": machine(), "devices": devices(), "compiler": compiler(), "extras": extras()}
    advice = advise(facts)
    if parsed.json:
        say(json.dumps({**facts, "advice": advice}))
        return 0
    here, compiled = facts["machine"], facts["compiler"]
    rows = [(name, here[name]) for name in ("versions", "platform")]
    rows += [
        ("processor", f"{here['processor']}, of which torch uses {here['instructions']}"),
        ("cores", f"{here['cores']} for this process; torch uses {here['threads']} threads (--num-threads)"),
        ("memory", f"{size(here['memory'])}, {size(here['memory_free'])} of it free"),
        ("disk", f"{size(here['disk_free'])} free in this folder"),
    ]
    if here["shared_memory"] is not None:
        rows.append(("shared memory", f"{size(here['shared_memory'])} free in {SHARED_MEMORY}"))
    rows += [
        ("devices", "; ".join(facts["devices"])),
        ("compiler", compiled or "none: --compile cannot be used"),
    ]
    say(entries(rows, 16))
    say("\nextras, installed by pip install 'rltrain[NAME]':")
    say(entries([(f"  {name}", text) for name, text in facts["extras"].items()], 16))
    if advice:
        say("\n" + "\n".join(f"- {line}" for line in advice))
    return 0


def machine() -> dict[str, Any]:
    """The processor, its memory and disk, and the versions of what matters."""
    import psutil
    import torch

    from rltrain.devices import cores, processor_name, processor_of
    from rltrain.runs.machine import versions

    shared = shutil.disk_usage(SHARED_MEMORY).free if SHARED_MEMORY.is_dir() else None
    return {
        "versions": ", ".join(f"{name} {version}" for name, version in versions().items()),
        "platform": platform.platform(),
        "processor": processor_name(),
        "instructions": processor_of(torch.device("cpu")),
        "cores": cores(),
        "threads": torch.get_num_threads(),
        "memory": psutil.virtual_memory().total,
        "memory_free": psutil.virtual_memory().available,
        "disk_free": shutil.disk_usage(".").free,
        "shared_memory": shared,
    }


def devices() -> list[str]:
    """The devices that --device takes here."""
    import torch

    found = ["cpu"]
    for index in range(torch.cuda.device_count()):
        name, memory = torch.cuda.get_device_name(index), torch.cuda.get_device_properties(index).total_memory
        found.append(f"cuda:{index} ({name}, {size(memory)})")
    accelerator = torch.accelerator.current_accelerator()
    if accelerator is not None and accelerator.type != "cuda":
        found.append(f"{accelerator.type} (untested)")
    return found


def compiler() -> str | None:
    """The C++ compiler that --compile uses on the CPU; None without one."""
    from rltrain.compile import cpp_compiler

    return cpp_compiler()


def extras() -> dict[str, str]:
    """What is installed of each extra, and what is missing or too old."""
    from packaging.requirements import Requirement

    found: dict[str, list[str]] = {}
    for text in metadata.requires("rltrain") or ():
        needed = Requirement(text)
        extra = str(needed.marker).partition('extra == "')[2].partition('"')[0] if needed.marker else ""
        if not extra or extra in ("test", "dev", "docs"):
            continue
        try:
            version = metadata.version(needed.name)
        except metadata.PackageNotFoundError:
            state = f"{needed.name} is missing"
        else:
            fits = needed.specifier.contains(version, prereleases=True)
            state = f"{needed.name} {version}" + ("" if fits else f" is too old: {needed.specifier}")
        found.setdefault(extra, []).append(state)
    return {extra: ", ".join(states) for extra, states in found.items()}


def advise(facts: dict[str, Any]) -> list[str]:
    """What to do about facts that stand in the way of training."""
    here, lines = facts["machine"], []
    if here["threads"] > here["cores"]:
        lines.append(
            f"torch uses {here['threads']} threads on {here['cores']} cores: set --num-threads {here['cores']}, "
            "or OMP_NUM_THREADS."
        )
    if here["shared_memory"] is not None and here["shared_memory"] < LEAST_SHARED:
        lines.append(
            f"{SHARED_MEMORY} has {size(here['shared_memory'])} free: start a container with --shm-size=1g, or "
            "workers of environments and ranks may fail."
        )
    if facts["compiler"] is None:
        lines.append("Install g++, or name another C++ compiler in CXX, to use --compile.")
    lines += [
        f"The extra {extra}: {state}. Run: pip install --upgrade 'rltrain[{extra}]'"
        for extra, states in facts["extras"].items()
        for state in states.split(", ")
        if "too old" in state
    ]
    return lines
