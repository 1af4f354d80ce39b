"""The gate before promotion: what a challenger has to show against the champion."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import numpy as np
import yaml
from pydantic import Field

from rltrain.config import Model
from rltrain.errors import ConfigError
from rltrain.evaluation.limits import Limits
from rltrain.evaluation.statistics import resampled_means
from rltrain.export.job import latency
from rltrain.export.whole_policy import WholePolicy
from rltrain.model_registry.card import parse_card
from rltrain.model_registry.contents import card_in
from rltrain.runs.policy import Policy, load
from rltrain.settings import validate
from rltrain.storage.files import Damaged, read_text, reason
from rltrain.storage.yaml_text import safe_load


class Slice(Model):
    """Conditions that a policy must hold its own under."""

    env: dict[str, Any] = Field(default_factory=dict)
    """Constructor arguments and options of the environment."""
    margin: Annotated[float, Field(ge=0.0)] | None = None
    """How far the mean return may fall here; none for that of all slices."""


class Gate(Model):
    """What a challenger has to show."""

    episodes: Annotated[int, Field(ge=2)] = 200
    """Episodes of each policy, on the held-out levels and on each slice."""
    seed: Annotated[int, Field(ge=0)] = 1_000_003
    """Seed of the episodes: not one that was trained or evaluated with."""
    confidence: Annotated[float, Field(gt=0.5, lt=1.0)] = 0.95
    """Of the lower bounds."""
    margin: float = 0.0
    """The lower bound of challenger minus champion must be above minus this."""
    slice_margin: Annotated[float, Field(ge=0.0)] = 0.0
    """How far the mean return may fall on a slice that states no margin of its own."""
    env: dict[str, Any] = Field(default_factory=dict)
    """Constructor arguments and options of the environment, such as split: test for held-out levels."""
    slices: dict[str, Slice] = Field(default_factory=dict)
    """Slices by name."""
    max_latency_us: Annotated[float, Field(gt=0.0)] | None = None
    """Most microseconds for an observation, by torch on this machine's CPU; none for no limit."""
    max_bytes: Annotated[int, Field(ge=1)] | None = None
    """Most bytes of the parameters; none for no limit."""
    card: list[str] = Field(default_factory=list)
    """Headings that the challenger's card must have, with something below them; or entries of its metadata."""


class Check(NamedTuple):
    """One of the things that were looked at."""

    name: str
    passed: bool
    said: str


def read_gate(path: str | Path | None) -> Gate:
    """The gate in a YAML file; the default one without a file.

    Raises:
        ConfigError: It cannot be read, or is no gate.
    """
    if path is None:
        return Gate()
    try:
        data = safe_load(read_text(Path(path)))
    except (OSError, Damaged, yaml.YAMLError, ValueError, RecursionError) as error:
        what = " ".join(str(error).split()) if isinstance(error, yaml.YAMLError) else reason(error)
        raise ConfigError(f"The gate '{path}' cannot be read: {what}.", "Name a YAML file.") from error
    if not isinstance(data, dict):
        raise ConfigError(f"The gate '{path}' is no mapping.", "Write lines such as 'episodes: 200'.")
    return validate(Gate, data, "")


def judge(gate: Gate, challenger: Path, champion: Path | None, *, env: Any = None) -> list[Check]:
    """Compares the policies in two verified folders; without a champion, only budgets and card are looked at.

    Both play in the environment of the challenger, with its constructor arguments, and the same levels: episode by
    episode from the same seeds, as far as the environment draws from them alone.

    Args:
        gate: What to show.
        challenger: The folder of the new version.
        champion: The folder of the one in use.
        env: The environment, where its id is not registered here; see :func:`rltrain.load`.

    Raises:
        ConfigError: The environment is not known here, or takes other options.
    """
    new = load(challenger, env=env)
    checks = [*_budgets(gate, new, challenger), *_card(gate, challenger)]
    if champion is None:
        return checks
    old = load(champion, env=env)
    if old.config.env.id != new.config.env.id:
        old = old.in_env(new.env)
    common = {**new.config.env.kwargs, **gate.env}
    conditions = {"held-out": (common, gate.margin)}
    for name, part in gate.slices.items():
        conditions[f"slice {name}"] = (
            {**common, **part.env},
            gate.slice_margin if part.margin is None else part.margin,
        )
    for name, (options, margin) in conditions.items():
        checks.append(_compared(name, gate, new, old, options, margin))
    return checks


def lower_bound(differences: np.ndarray, confidence: float) -> float:
    """The one-sided lower bound of a mean, by bootstrap with percentiles."""
    return float(np.quantile(resampled_means(differences), 1.0 - confidence))


def _compared(name: str, gate: Gate, new: Policy, old: Policy, options: Mapping[str, Any], margin: float) -> Check:
    returns = []
    for policy in (new, old):
        outcome = policy.evaluate(gate.episodes, seed=gate.seed, limits=Limits(seconds=None), **options)
        returns.append(outcome.returns)
    differences = returns[0] - returns[1]
    bound = lower_bound(differences, gate.confidence)
    said = (
        f"mean return {returns[0].mean():.2f} against {returns[1].mean():.2f}; difference {differences.mean():+.2f}, "
        f"lower bound {bound:+.2f}, at least {-margin + 0.0:+.2f} asked for"
    )
    return Check(name, bound >= -margin, said)


def _budgets(gate: Gate, policy: Policy, folder: Path) -> list[Check]:
    checks = []
    if gate.max_bytes is not None:
        size = next(folder.glob("checkpoints/step_*/policy.safetensors")).stat().st_size
        checks.append(Check("size", size <= gate.max_bytes, f"{size:,} bytes, at most {gate.max_bytes:,} asked for"))
    if gate.max_latency_us is not None:
        import torch

        module = WholePolicy(policy)
        inputs = module.examples(1)

        def call(given: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
            with torch.no_grad():
                module(*(torch.from_numpy(array) for array in given.values()))
            return {}

        took = latency(call, inputs) * 1e6
        said = f"{took:,.0f} us for an observation, at most {gate.max_latency_us:,.0f} asked for"
        checks.append(Check("latency", took <= gate.max_latency_us, said))
    return checks


def _card(gate: Gate, folder: Path) -> list[Check]:
    if not gate.card:
        return []
    card = parse_card(card_in(folder) or "")
    missing = [name for name in gate.card if not card.says(name)]
    said = (
        f"nothing is said about: {', '.join(missing)}" if missing else f"says what is asked for: {', '.join(gate.card)}"
    )
    return [Check("card", not missing, said)]
