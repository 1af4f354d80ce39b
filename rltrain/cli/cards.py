"""``rltrain models card|sbom``: writes what goes along with a policy."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from rltrain.cli.output import say
from rltrain.errors import RunError, plain
from rltrain.model_registry.card import card_text, make_card, parse_card
from rltrain.model_registry.contents import card_in
from rltrain.model_registry.files import files_in
from rltrain.model_registry.sbom import make_sbom, without_licence
from rltrain.model_registry.store import CHALLENGER, Registry
from rltrain.runs.folder import RunFolder
from rltrain.runs.layout import CHECKPOINTS, list_checkpoints, step_of
from rltrain.storage.digests import entry_of
from rltrain.storage.files import exists, reason, write_atomically


def write_card(what: str, folder: str, key: bytes | None, out: str) -> int:
    """Writes the card of a run or version, and says what a person has to write."""
    path, there = Path(out), exists(Path(out))
    if _is_run(what):
        run, checks, before, title = RunFolder.open(what)[0].path, [], None, ""
    else:
        registry, number = _version(what, folder, key)
        run, title = registry.open(number), f"{registry.name} version {number}"
        checks, before = _checks(registry, number), card_in(run)
    written = parse_card(card_text(path) if there else before or "")
    text = make_card(run, written=written, checks=checks, title=title)
    _write(path, text)
    missing = parse_card(text).missing()
    say(plain(f"{path}: {'nothing is missing' if not missing else 'write there: ' + ', '.join(missing)}"))
    return 0


def write_sbom(what: str, folder: str, key: bytes | None, out: str, extras: Iterable[str]) -> int:
    """Writes the bill of materials of a run or version, and says which packages state no licence."""
    if _is_run(what):
        run = RunFolder.open(what)[0]
        last = list_checkpoints(run.path / CHECKPOINTS)[-1:]
        names = [f"{CHECKPOINTS}/{last[0].name}/{name}" for name in files_in(last[0])] if last else []
        files: Mapping[str, Any] = {name: entry_of(run.path / name) for name in names}
        name, version = "/".join(run.path.absolute().parts[-2:]), str(step_of(last[0])) if last else "0"
        sbom = make_sbom(name, version, files, run.metadata(), extras)
    else:
        registry, number = _version(what, folder, key)
        registry.open(number)
        facts = registry.facts(number)
        sbom = make_sbom(registry.name, str(number), facts["files"], facts["lineage"], extras)
    _write(Path(out), json.dumps(sbom, indent=1) + "\n")
    say(plain(f"{out}: {len(sbom['components'])} packages, {len(sbom['metadata']['component']['components'])} files"))
    if silent := without_licence(sbom):
        say(plain(f"no licence is stated by: {', '.join(silent)}"))
    return 0


def _is_run(what: str) -> bool:
    return exists(Path(what) / "config.yaml") or exists(Path(what) / "manifest.json")


def _version(what: str, folder: str, key: bytes | None) -> tuple[Registry, int]:
    name, _, version = what.partition("@")
    registry = Registry(folder, name, key)
    return registry, registry.find(version or CHALLENGER)


def _checks(registry: Registry, number: int) -> list[Mapping[str, Any]]:
    """What the gate found last about a version."""
    noted = [each for each in registry.state()["log"] if each.get("version") == number and each.get("checks")]
    return noted[-1]["checks"] if noted else []


def _write(path: Path, text: str) -> None:
    try:
        write_atomically(path, text)
    except OSError as error:
        raise RunError(f"'{path}' cannot be written: {reason(error)}.", "Give another --out.") from error
