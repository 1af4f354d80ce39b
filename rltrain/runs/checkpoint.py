"""Checkpoints: a directory of safetensors and JSON, written whole or not at all, verified when read.

``step_000000123456/`` holds::

    policy.safetensors      the actor: what acting needs
    training.safetensors    every other tensor: critics, targets, optimizer, environments, statistics, generators
    state.json              everything that is not a tensor
    segment_*.safetensors   parts of a large replay, which checkpoints share; see :mod:`~rltrain.runs.segments`
    manifest.json           size and SHA-256 of the files above and facts about the run, sealed and written last

and, for each further rank K, its own training state in ``rank_K.safetensors`` and ``rank_K.json``.
"""

from __future__ import annotations

import json
import os
import re
import struct
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor

from rltrain.distributed.ranks import ALONE, Ranks
from rltrain.errors import CheckpointError
from rltrain.ring import Ring
from rltrain.runs.layout import MANIFEST, POLICY, TEMPORARY, TRAINING, cannot_be_read, files_of, set_aside, step_name
from rltrain.runs.segments import SEGMENT, SEPARATOR, Segments, describe, escaped, load, put, unescaped
from rltrain.runs.verify import FORMATS
from rltrain.storage.digests import entry_of
from rltrain.storage.files import (
    MIB,
    Damaged,
    check_folder,
    exists,
    open_file,
    read_text,
    reason,
    remove,
    sync_directory,
    write_new,
)
from rltrain.storage.records import read_json, sealed, unsealed

MODULES = "modules"  # the branch of the tensors that are learned besides the actor
RINGS = "~rings"  # the key of the descriptions of all rings in STATE, by path
FORMAT = FORMATS[-1]  # the format written
UNREADABLE = (OSError, SafetensorError, Damaged, RuntimeError)  # the last by torch, of a file that has just gone
HEADER_LIMIT, STATE_LIMIT = 64 * MIB, 256 * MIB  # bytes of the header of a file of tensors, and of state.json


def save_checkpoint(
    folder: Path,
    step: int,
    policy: Mapping[str, Tensor],
    training: Mapping[str, Any],
    ranks: Ranks = ALONE,
    facts: Mapping[str, Any] | None = None,
    segments: Segments | None = None,
) -> Path:
    """Writes a checkpoint under a temporary name, then renames it: it exists whole or not at all.

    Args:
        folder: The run's checkpoint folder, on a file system that all ranks share.
        step: Environment steps so far.
        policy: Flat mapping of tensors, the same on all ranks.
        training: Nested mapping of tensors, JSON values and :class:`~rltrain.ring.Ring`; every rank writes its own.
        ranks: The ranks that call this together.
        facts: What the first rank's manifest says about the run, as JSON values.
        segments: Those of the checkpoint before, to share; replaced by those of this one.

    Returns:
        The checkpoint directory, which is there on every rank.

    Raises:
        CheckpointError: The folder cannot be written to, by one of the ranks; nothing of the checkpoint is left.
    """
    target = folder / step_name(step)
    temporary = folder / f"{TEMPORARY}{step}"
    segments = Segments() if segments is None else segments
    tensors: dict[str, Tensor] = {}
    rings: dict[str, Ring] = {}
    shared: dict[str, Any] = {}
    plain = _split(training, (), tensors, rings)
    if rings:
        plain[RINGS] = {path: describe(ring) for path, ring in rings.items()}
    training_file, state_file = files_of(ranks.rank)

    def prepare() -> None:
        if ranks.first:
            remove(temporary)
            folder.mkdir(exist_ok=True)  # without its parents: a run folder that was moved must not come back
            check_folder(folder)
            temporary.mkdir()

    def write() -> dict[str, Any]:
        if ranks.first:
            _save_tensors(temporary / POLICY, policy)
        _save_tensors(temporary / training_file, tensors)
        write_new(temporary / state_file, json.dumps(plain, indent=1).encode())
        for ring in rings.values():
            shared.update(segments.put(temporary, ring))
        return {
            name: entry_of(temporary / name)
            for name in (*((POLICY,) if ranks.first else ()), training_file, state_file)
        } | shared

    def publish() -> None:
        if ranks.first:
            manifest = {"format": FORMAT, "step": step, "run": facts or {}, "files": files}
            write_new(temporary / MANIFEST, sealed(manifest).encode())
            sync_directory(temporary)
            aside = set_aside([target]) if exists(target) else None
            try:
                temporary.rename(target)
            except OSError:
                if aside is not None:
                    (aside / target.name).rename(target)
                raise
            sync_directory(folder)

    try:
        _together(ranks, prepare)
        files = {name: entry for each in _together(ranks, write) for name, entry in each.items()}
        _together(ranks, publish)
    except OSError as error:
        if ranks.first:
            remove(temporary)
        where = f" ({Path(error.filename).name})" if error.filename and Path(error.filename).name != target.name else ""
        raise CheckpointError(
            f"The checkpoint '{target}' cannot be written: {reason(error)}{where}.",
            "Make room, or choose another --run-dir.",
        ) from error
    segments.folder, segments.entries = target, shared
    return target


def _together(ranks: Ranks, work: Callable[[], Any]) -> list[Any]:
    """What ``work`` returns on each rank. If it fails on one of them, it fails on all.

    Raises:
        OSError: It failed.
    """
    answer, fault = None, None
    try:
        answer = work()
    except OSError as error:
        fault = [error.errno, reason(error), error.filename and str(error.filename)]
    answers = ranks.gather([answer, fault])
    for _, failed in answers:
        if failed is not None:
            raise OSError(*failed)
    return [answer for answer, _ in answers]


def load_policy(path: Path) -> dict[str, Tensor]:
    """The policy's tensors, on the CPU.

    Raises:
        CheckpointError: The checkpoint is damaged.
    """
    return _load_tensors(path, POLICY)


def load_modules(path: Path) -> dict[str, Tensor]:
    """The tensors that are learned besides the actor, such as critics, on the CPU.

    Nothing else is read from the file, which may hold a large replay buffer.

    Raises:
        CheckpointError: The checkpoint is damaged.
    """
    beginning = MODULES + SEPARATOR
    try:
        _check_header(path / TRAINING)
        with safe_open(path / TRAINING, framework="pt") as file:
            names = [name for name in file.keys() if name.startswith(beginning)]  # noqa: SIM118
            return {unescaped(name.removeprefix(beginning)): file.get_tensor(name) for name in names}
    except UNREADABLE as error:
        raise cannot_be_read(path / TRAINING, error) from error


def load_training(path: Path, rank: int = 0) -> dict[str, Any]:
    """The nested mapping that a rank passed to :func:`save_checkpoint`, with tensors on the CPU.

    Raises:
        CheckpointError: The checkpoint is damaged.
    """
    training_file, state_file = files_of(rank)
    try:
        state = read_json(path / state_file, STATE_LIMIT)
    except (OSError, Damaged) as error:
        raise cannot_be_read(path / state_file, error) from error
    rings = state.pop(RINGS, {})
    try:
        for name, tensor in _load_tensors(path, training_file).items():
            put(state, name, tensor)
        for name, description in rings.items():
            put(state, name, load(description, lambda file: _load_tensors(path, file)))
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise cannot_be_read(path / state_file, error) from error
    return state


def segments_of(path: Path) -> Segments:
    """The segments of a checkpoint, for the next one to share; none if its manifest cannot be read."""
    try:
        files = unsealed(read_text(path / MANIFEST))[0]["files"]
        return Segments(path, {name: entry for name, entry in files.items() if name.startswith(SEGMENT)})
    except (OSError, Damaged, KeyError, TypeError, AttributeError):
        return Segments()


def _split(tree: Any, path: tuple[str, ...], tensors: dict[str, Tensor], rings: dict[str, Ring]) -> Any:
    """Returns a nested mapping without its tensors and rings, which are collected by path."""
    if isinstance(tree, Mapping):
        rest: dict[str, Any] = {}
        for key, value in tree.items():
            here = (*path, escaped(str(key)))
            if isinstance(value, Ring):
                rings[SEPARATOR.join(here)] = value
            elif isinstance(value, Tensor):
                tensors[SEPARATOR.join(here)] = value
            else:
                rest[str(key)] = _split(value, here, tensors, rings)
        return rest
    return tree


def _save_tensors(path: Path, tensors: Mapping[str, Tensor]) -> None:
    """Writes tensors without copying them first: a replay buffer may take half of the memory.

    Only tensors that share their memory with another one are copied, because safetensors does not allow that.
    """
    on_host = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    users = Counter(tensor.untyped_storage().data_ptr() for tensor in on_host.values())
    shared = {name for name, tensor in on_host.items() if users[tensor.untyped_storage().data_ptr()] > 1}
    try:
        save_file({name: tensor.clone() if name in shared else tensor for name, tensor in on_host.items()}, path)
    except SafetensorError as error:
        number = re.search(r"os error (\d+)", str(error))
        code = int(number[1]) if number else None
        raise OSError(code, os.strerror(code) if code else str(error), str(path)) from error
    path.chmod(path.parent.stat().st_mode & 0o666)  # safetensors lets nobody else read; the folder is as umask says
    with open(path, "rb") as file:
        os.fsync(file.fileno())


def _load_tensors(path: Path, name: str) -> dict[str, Tensor]:
    try:
        _check_header(path / name)
        return load_file(path / name)
    except UNREADABLE as error:
        raise cannot_be_read(path / name, error) from error


def _check_header(path: Path) -> None:
    """Checks that a file of tensors is a regular file whose header, a JSON that is read whole, is not too long."""
    with open_file(path) as file:
        length = file.read(8)
    if len(length) == 8 and struct.unpack("<Q", length)[0] > HEADER_LIMIT:
        raise Damaged(f"its header is longer than {HEADER_LIMIT:,} bytes")
