"""Checkpoints: a directory of safetensors and JSON, written whole or not at all, verified when read.

``step_000000123456/`` holds::

    policy.safetensors      the actor: what acting needs
    training.safetensors    every other tensor: critics, targets, optimizer, environments, statistics, generators
    state.json              everything that is not a tensor
    manifest.json           size and SHA-256 of the files above, written last

and, for each further rank K, its own training state in ``rank_K.safetensors`` and ``rank_K.json``.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor

from rltrain.distributed.ranks import ALONE, Ranks
from rltrain.errors import CheckpointError

POLICY, TRAINING, STATE, MANIFEST = "policy.safetensors", "training.safetensors", "state.json", "manifest.json"
RANK = "rank_"
PREFIX, TEMPORARY, SUPERSEDED = "step_", ".writing-", "superseded_"
SEPARATOR = "/"
MODULES = "modules"  # the branch of the tensors that are learned besides the actor
FORMAT, FORMATS = 2, (1, 2)  # the format written, and those read: 1 had the tensors of MODULES among the policy's


def step_name(step: int) -> str:
    """The directory name of the checkpoint at a step."""
    return f"{PREFIX}{step:012d}"


def step_of(path: Path) -> int:
    """The step of a checkpoint directory, from its name."""
    return int(path.name.removeprefix(PREFIX))


def list_checkpoints(folder: Path) -> list[Path]:
    """The checkpoints in a folder, oldest first, verified or not."""
    found = (p for p in folder.glob(f"{PREFIX}*") if p.is_dir() and p.name.removeprefix(PREFIX).isdigit())
    return sorted(found, key=step_of)


def save_checkpoint(
    folder: Path, step: int, policy: Mapping[str, Tensor], training: Mapping[str, Any], ranks: Ranks = ALONE
) -> Path:
    """Writes a checkpoint under a temporary name, then renames it: it exists whole or not at all.

    Args:
        folder: The run's checkpoint folder, on a file system that all ranks share.
        step: Environment steps so far.
        policy: Flat mapping of tensors, the same on all ranks.
        training: Nested mapping of tensors and JSON values; every rank writes its own.
        ranks: The ranks that call this together.

    Returns:
        The checkpoint directory, which is there on every rank.

    Raises:
        CheckpointError: The folder cannot be written to.
    """
    target = folder / step_name(step)
    temporary = folder / f"{TEMPORARY}{step}"
    tensors: dict[str, Tensor] = {}
    plain = _split(training, (), tensors)
    training_file, state_file = files_of(ranks.rank)
    try:
        if ranks.first:
            shutil.rmtree(temporary, ignore_errors=True)
            temporary.mkdir(parents=True)
        ranks.gather(None)
        if ranks.first:
            _save_tensors(temporary / POLICY, policy)
        _save_tensors(temporary / training_file, tensors)
        _write_synced(temporary / state_file, _json(plain))
        written = {
            name: {"bytes": (temporary / name).stat().st_size, "sha256": _digest(temporary / name)}
            for name in (*((POLICY,) if ranks.first else ()), training_file, state_file)
        }
        files = {name: entry for each in ranks.gather(written) for name, entry in each.items()}
        if ranks.first:
            _write_synced(temporary / MANIFEST, _json({"format": FORMAT, "step": step, "files": files}))
            _sync_directory(temporary)
            if target.exists():
                set_aside([target])
            temporary.rename(target)
            _sync_directory(folder)
        ranks.gather(None)
    except (OSError, SafetensorError) as error:
        reason = getattr(error, "strerror", None) or error
        raise CheckpointError(
            f"The checkpoint '{target}' cannot be written: {reason}.", "Make room, or choose another --run-dir."
        ) from error
    return target


def files_of(rank: int) -> tuple[str, str]:
    """The two files with the training state of a rank: tensors, and everything else."""
    return (f"{RANK}{rank}.safetensors", f"{RANK}{rank}.json") if rank else (TRAINING, STATE)


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
        with safe_open(path / TRAINING, framework="pt") as file:
            names = [name for name in file.keys() if name.startswith(beginning)]  # noqa: SIM118
            return {_unescaped(name.removeprefix(beginning)): file.get_tensor(name) for name in names}
    except (OSError, SafetensorError) as error:
        raise CheckpointError(f"'{path / TRAINING}' cannot be read: {error}.", "Use another checkpoint.") from error


def load_training(path: Path, rank: int = 0) -> dict[str, Any]:
    """The nested mapping that a rank passed to :func:`save_checkpoint`, with tensors on the CPU.

    Raises:
        CheckpointError: The checkpoint is damaged.
    """
    training_file, state_file = files_of(rank)
    try:
        state = json.loads((path / state_file).read_text())
    except (OSError, ValueError) as error:
        raise CheckpointError(f"'{path / state_file}' cannot be read: {error}.", "Use another checkpoint.") from error
    for name, tensor in _load_tensors(path, training_file).items():
        *parents, leaf = map(_unescaped, name.split(SEPARATOR))
        branch = state
        for parent in parents:
            branch = branch.setdefault(parent, {})
        branch[leaf] = tensor
    return state


def find_fault(path: Path) -> str | None:
    """What is wrong with a checkpoint, or None if it is intact."""
    try:
        manifest = json.loads((path / MANIFEST).read_text())
        files = {str(name): (entry["bytes"], entry["sha256"]) for name, entry in manifest["files"].items()}
    except FileNotFoundError:
        return f"{MANIFEST} is missing"
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return f"{MANIFEST} cannot be read"
    if manifest.get("format") not in FORMATS:
        return f"its format is {manifest.get('format')}, this version reads {' and '.join(map(str, FORMATS))}"
    if lost := next((name for name in (POLICY, TRAINING, STATE) if name not in files), None):
        return f"{MANIFEST} does not list {lost}"
    for name, (size, digest) in files.items():
        try:
            found = (path / name).stat().st_size
            if found != size:
                return f"{name} has {found} bytes instead of {size}"
            if _digest(path / name) != digest:
                return f"{name} was changed: its checksum differs"
        except OSError:
            return f"{name} is missing"
    return None


def prune(folder: Path, keep: int, also: int | None) -> None:
    """Removes all but the ``keep`` newest checkpoints and the one at step ``also``."""
    for path in list_checkpoints(folder)[:-keep]:
        if step_of(path) != also:
            shutil.rmtree(path, ignore_errors=True)


def set_aside(paths: list[Path]) -> None:
    """Moves checkpoints into a folder of their own beside the others, so that nothing is ever overwritten."""
    if not paths:
        return
    folder = paths[0].parent
    taken = [path.name.removeprefix(SUPERSEDED) for path in folder.glob(f"{SUPERSEDED}*")]
    number = max((int(name) for name in taken if name.isdigit()), default=0) + 1
    aside = folder / f"{SUPERSEDED}{number}"
    aside.mkdir()
    for path in paths:
        path.rename(aside / path.name)


def remove_unfinished(folder: Path) -> None:
    """Removes checkpoints that a killed process left half written."""
    for path in folder.glob(f"{TEMPORARY}*"):
        shutil.rmtree(path, ignore_errors=True)


def write_atomically(path: Path, text: str) -> None:
    """Replaces a small text file in one step."""
    temporary = path.with_name(f".{path.name}.writing")
    _write_synced(temporary, text.encode())
    os.replace(temporary, path)


def _split(tree: Any, path: tuple[str, ...], tensors: dict[str, Tensor]) -> Any:
    """Returns a nested mapping without its tensors, which are collected by path in ``tensors``."""
    if isinstance(tree, Mapping):
        rest: dict[str, Any] = {}
        for key, value in tree.items():
            if isinstance(value, Tensor):
                tensors[SEPARATOR.join((*path, _escaped(str(key))))] = value
            else:
                rest[str(key)] = _split(value, (*path, _escaped(str(key))), tensors)
        return rest
    return tree


def _escaped(key: str) -> str:
    """A key as a part of a path, as in JSON Pointer (RFC 6901): names of observations may hold a separator."""
    return key.replace("~", "~0").replace(SEPARATOR, "~1")


def _unescaped(part: str) -> str:
    return part.replace("~1", SEPARATOR).replace("~0", "~")


def _save_tensors(path: Path, tensors: Mapping[str, Tensor]) -> None:
    """Writes tensors without copying them first: a replay buffer may take half of the memory.

    Only tensors that share their memory with another one are copied, because safetensors does not allow that.
    """
    on_host = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    users = Counter(tensor.untyped_storage().data_ptr() for tensor in on_host.values())
    shared = {name for name, tensor in on_host.items() if users[tensor.untyped_storage().data_ptr()] > 1}
    save_file({name: tensor.clone() if name in shared else tensor for name, tensor in on_host.items()}, path)
    with open(path, "rb") as file:
        os.fsync(file.fileno())


def _digest(path: Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _load_tensors(path: Path, name: str) -> dict[str, Tensor]:
    try:
        return load_file(path / name)
    except (OSError, SafetensorError) as error:
        raise CheckpointError(f"'{path / name}' cannot be read: {error}.", "Use another checkpoint.") from error


def _json(value: Any) -> bytes:
    return json.dumps(value, indent=1).encode()


def _write_synced(path: Path, data: bytes) -> None:
    with open(path, "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def _sync_directory(path: Path) -> None:
    if os.name != "posix":
        return
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def newest_good(folder: Path) -> Iterator[tuple[Path, str | None]]:
    """Yields checkpoints from the newest back, each with its fault, and ends with the first intact one."""
    for path in reversed(list_checkpoints(folder)):
        fault = find_fault(path)
        yield path, fault
        if fault is None:
            return
