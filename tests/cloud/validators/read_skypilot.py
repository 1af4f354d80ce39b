"""Reads a task as SkyPilot does.

python skypilot.py FILE
"""

from __future__ import annotations

import sys

import sky

task = sky.Task.from_yaml(sys.argv[1])
assert task.run
print("ok")
