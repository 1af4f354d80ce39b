"""Generated levels in three splits, to measure how a policy generalises to levels that it was not trained on.

A generator of levels is an endless stream, the same in every process. Each level belongs to one split: half of them to
``train``, a quarter each to ``validation`` and ``test``. A fingerprint of the level's own board decides which, so no
level is in two splits. The eight rotations and reflections of a board have the same fingerprint, so no level of one
split is a turned level of another. Level ``k`` of a split is its ``k``-th in the stream, however many are used.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import count
from typing import TypeAlias

import numpy as np
import torch
from torch import Tensor

from rltrain.errors import ConfigError
from rltrain.rng import derive_seed

SPLITS = ("train", "validation", "test")
HELD_OUT = 500  # levels of the splits for validation and for testing

Levels: TypeAlias = dict[str, Tensor]  # "board" (L, S, S) uint8, and what else belongs to a level, (L, ...)


def level_bank(
    name: str,
    generate: Callable[[int, torch.Generator], Levels],
    *,
    split: str,
    num_levels: int,
    level_seed: int,
    batch: int,
) -> Levels:
    """The first levels of a split, no two alike, not even when turned or reflected.

    Args:
        name: Name of the kind of level, with everything that it depends on.
        generate: Function that makes up to a given number of levels from a CPU generator. Levels that differ must have
            different boards.
        split: One of SPLITS.
        num_levels: Number of levels of the split ``train``; the others have HELD_OUT.
        level_seed: Seed of the stream of levels, which are assigned to the splits by the same rule.
        batch: How many levels to generate at a time.

    Returns:
        The levels on the CPU, in order.

    Raises:
        ConfigError: There are not as many different levels.
    """
    wanted = num_levels if split == "train" else HELD_OUT
    parts: list[Levels] = []
    known = np.empty(0, dtype=np.int64)
    for turn in count():
        levels = generate(batch, torch.Generator().manual_seed(derive_seed(level_seed, name, turn)))
        prints = fingerprint(levels["board"])
        ours = (split_of(prints) == SPLITS.index(split)).numpy()
        one_of_each = np.sort(np.unique(prints.numpy(), return_index=True)[1])
        new = one_of_each[ours[one_of_each] & ~np.isin(prints[one_of_each], known)]
        known = np.concatenate((known, prints.numpy()[new]))
        parts.append({key: part[new] for key, part in levels.items()})
        if len(known) >= wanted:
            break
        if len(new) <= batch // 1000:
            raise ConfigError(
                f"{name}: the split '{split}' has hardly more than {len(known)} different levels.",
                f"Larger ones are needed for {wanted}.",
            )
    return {key: torch.cat([part[key] for part in parts])[:wanted].clone() for key in parts[0]}


def fingerprint(boards: Tensor) -> Tensor:
    """A number (L,) int64 for each board (L, S, S), the same for its rotations and reflections."""
    side = boards.shape[-1]
    rng = torch.Generator().manual_seed(side)
    weights = torch.randint(-(2**63), 2**63 - 1, (side, side), generator=rng)
    turned = [torch.rot90(face, k) for face in (weights, weights.t()) for k in range(4)]
    sums = boards.flatten(1).to(torch.int64) @ torch.stack([view.flatten() for view in turned], 1)  # modulo 2^64
    return sums.amin(1)


def split_of(fingerprints: Tensor) -> Tensor:
    """The split's place in SPLITS, by two of the fingerprint's bits."""
    return ((fingerprints >> 32) % 4 - 1).clamp(min=0)
