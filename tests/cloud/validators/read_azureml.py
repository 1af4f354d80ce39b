"""Reads a command job as azure-ai-ml does.

python azureml.py FILE
"""

from __future__ import annotations

import sys

from azure.ai.ml import load_job

job = load_job(sys.argv[1])
result = job._validate()
if not result.passed:
    sys.exit(str(result))
assert job.command
print("ok")
