"""Policies on the Hugging Face Hub, there and back. The only file that imports huggingface_hub.

What is pulled is a version as its ``version.json`` lists it: text and safetensors, within the sizes that it states,
each compared with its checksum. Nothing of it is run or unpickled, and whatever else lies in the repository stays
there.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from rltrain.errors import CheckpointError, ConfigError, RunError
from rltrain.model_registry.card import parse_card
from rltrain.model_registry.files import ALLOWED, check_files, listed
from rltrain.naming.installed import need
from rltrain.process.telemetry import switch_off
from rltrain.runs.layout import VERSION
from rltrain.storage.files import MIB, Damaged, exists, reason, sync_directory, write_new
from rltrain.storage.making import making
from rltrain.storage.records import unsealed

REPO = re.compile(r"[A-Za-z0-9][\w.-]{0,95}/[A-Za-z0-9][\w.-]{0,95}", re.ASCII)
README, SBOM = "README.md", "sbom.json"
LIST_BYTES = MIB  # of a version.json
LIMIT = 2**32
"""Bytes of all files of a policy, unless another limit is given."""


def push(
    folder: Path, facts: Mapping[str, Any], card: str, sbom: Mapping[str, Any], repo: str, *, private: bool
) -> str:
    """Puts a version into a repository, made if it is not there, as one commit.

    Args:
        folder: The verified folder of the version.
        facts: Its ``version.json``.
        card: Its card, which becomes the README.
        sbom: Its bill of materials.
        repo: ``OWNER/NAME``.
        private: Whether a repository that is made is private.

    Returns:
        The address of the commit.

    Raises:
        ConfigError: The name is none, or a person has not written all of the card.
        RunError: The Hub refuses, or cannot be reached.
    """
    _check_name(repo)
    if missing := parse_card(card).missing():
        fix = "Write a card: rltrain models card, and give it to 'models register' or by --card."
        raise ConfigError(f"The card says nothing about: {', '.join(missing)}.", fix)
    _need()
    from huggingface_hub import CommitOperationAdd, CommitOperationDelete

    files: dict[str, Path | bytes] = {name: folder / name for name in listed(facts)}
    files |= {VERSION: folder / VERSION, README: card.encode(), SBOM: json.dumps(sbom, indent=1).encode()}
    with _refusals(repo):
        api = _api()
        api.create_repo(repo, private=private, exist_ok=True)
        there = [each.rfilename for each in api.model_info(repo).siblings or ()]
        old = [name for name in there if ALLOWED.fullmatch(name) and name not in files]
        operations: list[Any] = [CommitOperationDelete(name) for name in old]
        operations += [
            CommitOperationAdd(name, content if isinstance(content, bytes) else str(content))
            for name, content in files.items()
        ]
        title = f"{facts['name']} version {facts['version']}"
        return str(api.create_commit(repo, operations, commit_message=title).commit_url)


def pull(repo: str, out: Path, *, revision: str | None = None, limit: int = LIMIT) -> dict[str, Any]:
    """Brings the version in a repository into a new folder, which is there whole or not at all.

    Args:
        repo: ``OWNER/NAME``.
        out: The folder to make.
        revision: Branch, tag or commit; the newest by default.
        limit: Bytes of all files.

    Returns:
        Its ``version.json``, with the commit as ``hub_commit``.

    Raises:
        ConfigError: The name is none, or there is something at ``out``.
        CheckpointError: There is no policy in it, it is too large, or a file is not as it should be.
        RunError: The Hub refuses, cannot be reached, or the folder cannot be written.
    """
    _check_name(repo)
    _need()
    if exists(out):
        raise ConfigError(f"There is something at '{out}' already.", "Choose another place for it.")
    try:
        with _refusals(repo):
            commit = str(_api().model_info(repo, revision=revision).sha)
        with making(out) as temporary:
            facts = _fill(temporary, repo, commit, limit)
            check_files(temporary, facts)
            sync_directory(temporary)
            temporary.rename(out)
        return {**facts, "hub_commit": commit}
    except (Damaged, UnicodeDecodeError) as error:
        fix = "Take another revision, or ask its owner."
        raise CheckpointError(f"'{repo}' holds no policy that can be used: {reason(error)}.", fix) from error
    except OSError as error:
        raise RunError(f"'{out}' cannot be written: {reason(error)}.", "Choose another --out.") from error


def _fill(folder: Path, repo: str, commit: str, limit: int) -> dict[str, Any]:
    """Brings ``version.json`` and the files that it lists; returns what it says.

    Raises:
        Damaged: It was changed, or lists what is not allowed; or a file is longer than it says.
    """
    text = b"".join(_download(repo, VERSION, commit, LIST_BYTES))
    write_new(folder / VERSION, text)
    facts, unchanged = unsealed(text.decode())
    if not unchanged:
        raise Damaged(f"{VERSION} was changed: its checksum differs")
    files = listed(facts)
    if (total := sum(entry["bytes"] for entry in files.values())) > limit:
        raise Damaged(f"it has {total:,} bytes, and {limit:,} are allowed: --max-bytes")
    for name, entry in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        with open(folder / name, "xb") as file:
            for part in _download(repo, name, commit, entry["bytes"]):
                file.write(part)
            file.flush()
            os.fsync(file.fileno())
    return facts


def _download(repo: str, name: str, commit: str, limit: int) -> Iterator[bytes]:
    """The content of a file, of which no more than ``limit`` bytes are taken.

    Raises:
        Damaged: It has more.
    """
    from huggingface_hub import hf_hub_url
    from huggingface_hub.utils import build_hf_headers, get_session, hf_raise_for_status

    url = hf_hub_url(repo, name, revision=commit, endpoint=_api().endpoint)
    taken = 0
    with (
        _refusals(f"{repo}/{name}"),
        get_session().stream("GET", url, headers=build_hf_headers(), follow_redirects=True) as response,
    ):
        hf_raise_for_status(response)
        for part in response.iter_bytes():
            taken += len(part)
            if taken > limit:
                raise Damaged(f"'{name}' has more than the {limit:,} bytes that are allowed")
            yield part


def _api() -> Any:
    from huggingface_hub import HfApi

    return HfApi(endpoint=os.environ.get("HF_ENDPOINT"), library_name="rltrain")


@contextmanager
def _refusals(what: str) -> Iterator[None]:
    """Turns what the Hub, or the way there, answers into an error of ours."""
    try:
        yield
    except (Damaged, OSError) as error:
        if isinstance(error, Damaged) or type(error).__module__ == "builtins":
            raise
        raise _refused(what, error) from error
    except Exception as error:  # of huggingface_hub and of its HTTP client, which changed between its versions
        if type(error).__module__.partition(".")[0] not in (
            "huggingface_hub",
            "httpx",
            "httpx2",
            "httpcore",
            "requests",
        ):
            raise
        raise _refused(what, error) from error


def _refused(what: str, error: Exception) -> RunError:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    fix = "See that the name is right, that the network is there, and that 'hf auth login' was done."
    return RunError(f"The Hub and '{what}': {' '.join(lines)[:300] or type(error).__name__}", fix)


def _need() -> None:
    need("huggingface_hub", install="rltrain[hub]")
    switch_off()


def _check_name(repo: str) -> None:
    if not REPO.fullmatch(repo):
        raise ConfigError(f"'{repo}' is no repository of the Hub.", "Write OWNER/NAME.")
