"""The card of an environment in a report."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import Any

from rltrain.describe import LABELS, describe_env
from rltrain.errors import RLTrainError
from rltrain.registry import find_env
from rltrain.reports.html import Markup, data_uri, join, pairs, tag
from rltrain.storage.files import Damaged, read_bytes


def card_of(env: str) -> Markup:
    """What is known here of an environment: its rules if it is one of tensors, else what its registration says."""
    try:
        spec = find_env(env)
    except RLTrainError as error:
        return tag("p", f"{error.cause} So there is no card of it.", class_="soft")
    if spec is None:
        return tag("p", "The environment is not registered here, so there is no card of it.", class_="soft")
    if spec.vectorizer:  # of another library: it is not made for a page
        kept = ("group", "description", "max_episode_steps", "reward_threshold")
        facts: dict[str, Any] = {**{name: getattr(spec, name) for name in kept}, "picture": None}
    else:
        facts = describe_env(env)
    labels = [label.lower().replace(" ", "_") for label in LABELS]
    names = ("group", "observation_space", "action_space", "max_episode_steps", "reward_threshold", *labels)
    known = {name: str(facts[name]).replace("``", "") for name in names if facts.get(name) not in (None, "")}
    rows = [(name.replace("_", " "), text) for name, text in known.items()]
    picture: list[Markup] = []
    if facts["picture"] is not None:
        with suppress(OSError, Damaged):
            source = data_uri(read_bytes(Path(facts["picture"])), "image/png")
            picture = [tag("img", src=source, alt=f"{env}, a picture")]
    parts = [tag("p", str(facts["description"]))] if facts["description"] else []
    return join([*parts, tag("div", *picture, pairs(rows), class_="card")])
