"""Switches of other libraries that keep them from reporting on their users to their makers."""

from __future__ import annotations

import os

NO_TELEMETRY = {
    "DO_NOT_TRACK": "true",
    "WANDB_ERROR_REPORTING": "false",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "COMET_ERROR_TRACKING_ENABLE": "false",
    "GRADIO_ANALYTICS_ENABLED": "False",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "DVC_NO_ANALYTICS": "true",
    "ITERATIVE_DO_NOT_TRACK": "true",
    "RAY_USAGE_STATS_ENABLED": "0",
    "SKYPILOT_DISABLE_USAGE_COLLECTION": "1",
    "LABEL_STUDIO_COLLECT_ANALYTICS": "false",
}
"""Environment variables, read by the libraries when they are imported."""


def switch_off() -> None:
    """Sets the switches in this process and those that it starts, except such as the user has set."""
    for name, value in NO_TELEMETRY.items():
        os.environ.setdefault(name, value)
