"""Random streams: one generator for each purpose, all derived from the seed of the run.

Nothing in rltrain draws from torch's default generator while training, so evaluation, logging and a
user's own code cannot disturb a run.
"""

from __future__ import annotations

import hashlib
import random
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor

from rltrain.process.turns import Turns

_process_wide = threading.RLock()
"""Held while the process-wide generators are read or set, so that threads which train do not disturb each other."""


def derive_seed(seed: int, *path: str | int) -> int:
    """An independent 63-bit seed for the stream named by ``path``, such as ``("env", rank)``."""
    text = "/".join(str(part) for part in (seed, *path))
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1


def make_generator(device: torch.device | str, seed: int) -> torch.Generator | None:
    """A seeded generator on ``device``; None on ``meta``, which has no generators."""
    device = torch.device(device)
    return None if device.type == "meta" else torch.Generator(device).manual_seed(seed)


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Runs a block with torch's default CPU generator seeded, and restores its state afterwards.

    Other threads wait meanwhile if they enter such a block too, or set the process-wide generators by this module.
    """
    with _process_wide, torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)  # torch.manual_seed would seed every GPU too
        yield


def seed_global(seed: int) -> None:
    """Seeds the process-wide generators, which a user's environment may draw from."""
    with _process_wide:
        torch.manual_seed(seed)
        np.random.seed(seed % 2**32)
        random.seed(seed)


def global_state() -> dict[str, Any]:
    """The state of the process-wide generators, as this thread has them: see :data:`turns`."""
    with _process_wide:
        return turns.left or _global_state()


def _global_state() -> dict[str, Any]:
    name, keys, position, has_gauss, gauss = np.random.get_state(legacy=True)
    version, internal, gauss_next = random.getstate()
    state: dict[str, Any] = {
        "torch": torch.get_rng_state(),
        "numpy": {
            "name": name,
            "keys": torch.from_numpy(np.asarray(keys).astype(np.int64)),
            "position": position,
            "has_gauss": has_gauss,
            "gauss": gauss,
        },
        "python": {
            "version": version,
            "internal": torch.tensor(internal, dtype=torch.int64),
            "gauss_next": gauss_next,
        },
    }
    accelerator = torch.accelerator.current_accelerator(check_available=True)
    if accelerator is not None:
        get = torch.get_device_module(accelerator).get_rng_state
        state[accelerator.type] = {str(i): get(*where) for i, where in _places(accelerator)}
    return state


def set_global_state(state: dict[str, Any]) -> None:
    """Puts back what :func:`global_state` gave. Accelerators that are not here are skipped."""
    with _process_wide:
        _set_global_state(state)


def _set_global_state(state: dict[str, Any]) -> None:
    torch.set_rng_state(state["torch"])
    numpy_state = state["numpy"]
    np.random.set_state(
        (
            numpy_state["name"],
            numpy_state["keys"].numpy().astype(np.uint32),
            numpy_state["position"],
            numpy_state["has_gauss"],
            numpy_state["gauss"],
        )
    )
    python_state = state["python"]
    internal, gauss = tuple(python_state["internal"].tolist()), python_state["gauss_next"]
    random.setstate((python_state["version"], internal, None if gauss is None else float(gauss)))
    accelerator = torch.accelerator.current_accelerator(check_available=True)
    if accelerator is not None:
        saved = state.get(accelerator.type, {})
        set_ = torch.get_device_module(accelerator).set_rng_state
        for i, where in _places(accelerator):
            if str(i) in saved:
                set_(saved[str(i)], *where)


def _places(accelerator: torch.device) -> list[tuple[int, tuple[int, ...]]]:
    """The accelerators of this machine by number, and how their generators are addressed: mps has but one."""
    count = torch.accelerator.device_count()
    return [(i, () if accelerator.type == "mps" else (i,)) for i in range(count)]


turns = Turns(_global_state, _set_global_state)
"""Runs in threads of one process take turns with its generators, which many environments draw from.

A run in which nothing draws from them takes none, and leaves them alone.
"""


@contextmanager
def global_kept() -> Iterator[None]:
    """Puts the process-wide generators back as they were before a block, unless they are for other threads to use."""
    if turns.left is not None or turns.of_another:
        yield
        return
    state = global_state()
    try:
        yield
    finally:
        set_global_state(state)


def generator_state(generator: torch.Generator | None) -> Tensor:
    """The generator's state as bytes; empty for None."""
    return torch.empty(0, dtype=torch.uint8) if generator is None else generator.get_state()


def set_generator_state(generator: torch.Generator | None, state: Tensor) -> None:
    """Puts back what :func:`generator_state` gave."""
    if generator is not None and state.numel():
        generator.set_state(state.cpu())


def numpy_state(generator: np.random.Generator) -> Tensor:
    """The state of one of NumPy's generators, with PCG64 as ``numpy.random.default_rng`` has it, as bytes (37,)."""
    state: Any = generator.bit_generator.state
    numbers = (
        (state["state"]["state"], 16),
        (state["state"]["inc"], 16),
        (state["has_uint32"], 1),
        (state["uinteger"], 4),
    )
    return torch.tensor([byte for number, size in numbers for byte in number.to_bytes(size, "little")]).to(torch.uint8)


def numpy_generator(state: Tensor) -> np.random.Generator:
    """A generator that goes on from what :func:`numpy_state` gave.

    Raises:
        ValueError: It is not what that gives.
    """
    saved = bytes(state.tolist())
    if len(saved) != 37:
        raise ValueError(f"the state of a generator has {len(saved)} bytes, expected 37")
    place, increment, held, half = (
        int.from_bytes(saved[begin:end], "little") for begin, end in ((0, 16), (16, 32), (32, 33), (33, 37))
    )
    bits: Any = np.random.PCG64()
    bits.state = {
        "bit_generator": "PCG64",
        "state": {"state": place, "inc": increment},
        "has_uint32": held,
        "uinteger": half,
    }
    return np.random.Generator(bits)
