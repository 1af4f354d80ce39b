"""Promotion: the challenger becomes the champion if it passes the gate."""

from __future__ import annotations

from typing import Any

from rltrain.errors import ConfigError
from rltrain.model_registry.gate import Check, Gate, judge
from rltrain.model_registry.store import CHALLENGER, CHAMPION, Registry


def promote(
    registry: Registry, gate: Gate, which: str = CHALLENGER, *, env: Any = None
) -> tuple[int, bool, list[Check]]:
    """Judges a version and, if it passes every check, makes it the champion in one step. Either is logged.

    Args:
        registry: The versions.
        gate: What the challenger has to show against the champion, where there is one.
        which: The version's alias or number.
        env: The environment, where its id is not registered here.

    Returns:
        The number, whether it is the champion now, and the checks.

    Raises:
        CheckpointError: A file of one of the versions was changed.
        ConfigError: There is no such version, or it is the champion already.
        RunError: The registry cannot be written to, or there was another champion when the gate was through.
    """
    number, champion = registry.find(which), registry.state()["aliases"].get(CHAMPION)
    if number == champion:
        raise ConfigError(f"Version {number} of '{registry.name}' is the champion already.", "Promote another one.")
    checks = judge(gate, registry.open(number), None if champion is None else registry.open(champion), env=env)
    facts: dict[str, Any] = {"gate": gate.model_dump(mode="json"), "checks": [each._asdict() for each in checks]}
    passed = all(each.passed for each in checks)
    if passed:
        registry.name_version(CHAMPION, number, "promoted", expected=champion, **facts)
    else:
        registry.note("refused", version=number, against=champion, **facts)
    return number, passed, checks
