"""The bill of materials of a policy: its files and the packages that rltrain needs, in CycloneDX 1.6.

The format is that of https://cyclonedx.org/docs/1.6/json; the model is a component of the type
``machine-learning-model``.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Mapping
from importlib import metadata
from typing import Any

from rltrain import __version__
from rltrain.errors import ConfigError
from rltrain.naming.installed import package_name
from rltrain.storage.records import now

OURS = "rltrain"


def make_sbom(
    name: str,
    version: str,
    files: Mapping[str, Mapping[str, Any]],
    facts: Mapping[str, Any],
    extras: Iterable[str] = (),
) -> dict[str, Any]:
    """The bill of materials, as JSON values.

    Args:
        name: Of the policy.
        version: Its version, or step.
        files: ``sha256`` of each of its files, by name.
        facts: The metadata of its run, whose versions of packages are named beside those that are installed.
        extras: Optional dependencies of rltrain to list as well, such as ``serve``.

    Raises:
        ConfigError: There is no such extra.
    """
    packages = _reached(extras)
    components = [_component(package) for package in packages]
    refs = {package: _ref(package) for package in packages}
    trained = facts.get("versions")
    properties = [
        {"name": f"rltrain:trained_with:{package}", "value": str(number)}
        for package, number in (trained.items() if isinstance(trained, Mapping) else ())
    ]
    model = {
        "type": "machine-learning-model",
        "bom-ref": "policy",
        "name": name,
        "version": version,
        "components": [
            {"type": "file", "name": file, "hashes": [{"alg": "SHA-256", "content": str(entry["sha256"])}]}
            for file, entry in files.items()
        ],
        **({"properties": properties} if properties else {}),
    }
    return {
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "serialNumber": f"urn:uuid:{uuid.uuid4()}",
        "version": 1,
        "metadata": {
            "timestamp": now(),
            "tools": {"components": [{"type": "application", "name": OURS, "version": __version__}]},
            "component": model,
        },
        "components": components,
        "dependencies": [
            {"ref": "policy", "dependsOn": [refs[OURS]]},
            *(
                {"ref": refs[package], "dependsOn": sorted(refs[each] for each in needs)}
                for package, needs in packages.items()
            ),
        ],
    }


def without_licence(sbom: Mapping[str, Any]) -> list[str]:
    """The packages that state no licence."""
    return [each["name"] for each in sbom["components"] if "licenses" not in each]


def _reached(extras: Iterable[str]) -> dict[str, set[str]]:
    """The installed packages that rltrain needs, directly or not, and those that each of them needs."""
    from packaging.requirements import Requirement

    known = set(metadata.metadata(OURS).get_all("Provides-Extra") or ())
    wanted = set(extras)
    if unknown := sorted(wanted - known):
        raise ConfigError(f"rltrain has no extra '{unknown[0]}'.", f"It has: {', '.join(sorted(known))}.")
    found: dict[str, set[str]] = {}
    to_see: list[tuple[str, frozenset[str]]] = [(OURS, frozenset(wanted))]
    seen: set[tuple[str, frozenset[str]]] = set()
    while to_see:
        each = to_see.pop()
        if each in seen:
            continue
        seen.add(each)
        name, chosen = each
        needs = found.setdefault(name, set())
        for text in metadata.requires(name) or ():
            requirement = Requirement(text)
            marker = requirement.marker
            if marker is not None and not any(marker.evaluate({"extra": extra}) for extra in (*chosen, "")):
                continue
            other = package_name(requirement.name)
            try:
                metadata.version(other)
            except metadata.PackageNotFoundError:
                continue
            if other != name:
                needs.add(other)
            to_see.append((other, frozenset(requirement.extras)))
    return dict(sorted(found.items()))


def _component(package: str) -> dict[str, Any]:
    facts = metadata.metadata(package)
    component = {
        "type": "library",
        "bom-ref": _ref(package),
        "name": package,
        "version": metadata.version(package),
        "purl": _ref(package),
    }
    licences = _licences(facts)
    return {**component, "licenses": licences} if licences else component


def _licences(facts: Any) -> list[dict[str, Any]]:
    """What a package states: an SPDX expression, or the names of licences."""
    if expression := facts.get("License-Expression"):
        return [{"expression": str(expression)}]
    classifiers = [text for text in facts.get_all("Classifier") or () if text.startswith("License ::")]
    names = [text.rpartition(" :: ")[2] for text in classifiers if text.count(" :: ") > 1]
    stated = str(facts.get("License") or "").strip()
    if not names and stated and stated.upper() != "UNKNOWN":
        names = [stated.partition("\n")[0][:100]]
    return [{"license": {"name": name}} for name in dict.fromkeys(names)]


def _ref(package: str) -> str:
    """The package URL, https://github.com/package-url/purl-spec."""
    return f"pkg:pypi/{package}@{metadata.version(package).replace('+', '%2B')}"
