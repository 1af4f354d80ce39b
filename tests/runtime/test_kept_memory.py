"""Freed memory is reused instead of requested from the kernel again."""

from __future__ import annotations

import os
import platform
import subprocess
import sys

import pytest

COUNT_FAULTS = """
import resource, sys, torch
from rltrain.process.memory import keep_memory
if sys.argv[1] == "kept":
    keep_memory()
torch.set_num_threads(1)
def use():
    for _ in range(50):
        together = [torch.ones(2**20) for _ in range(8)]
        del together
use()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
use()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="it is an option of glibc")
def test_freed_memory_is_kept() -> None:
    # Thresholds of its own keep glibc from adapting them, which it does or does not by how the heap happens to lie.
    environment = {**os.environ, "MALLOC_MMAP_THRESHOLD_": "131072", "MALLOC_TRIM_THRESHOLD_": "131072"}
    faults = {}
    for way in ("kept", "given back"):
        command = [sys.executable, "-c", COUNT_FAULTS, way]
        faults[way] = int(subprocess.run(command, capture_output=True, check=True, env=environment).stdout)
    assert faults["kept"] < 200 < faults["given back"]
