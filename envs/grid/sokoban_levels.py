"""Sokoban levels, made by playing backwards from the solution, so that all can be solved.

After Racaniere et al., "Imagination-Augmented Agents for Deep Reinforcement Learning", 2017.
"""

from __future__ import annotations

from functools import lru_cache
from itertools import permutations

import torch
from torch import Tensor

from rltrain.envs.grid.levels import Levels, level_bank

WALL, TARGET, BOX, PLAYER = 1, 2, 4, 8  # contents of a square of a level, added up
DIG = 4  # steps of the walk that digs a room, for each square along a side
STEPS = 250  # of the backward game
JUDGED = 20  # steps from one judgement to the next
TURN = 0.75  # chance that its player turns before a step


@lru_cache(maxsize=8)
def sokoban_levels(size: int, num_boxes: int, min_pushes: int, split: str, num_levels: int, level_seed: int) -> Levels:
    """The boards of a split, with the squares ``player`` (L,) and ``boxes`` (L, num_boxes) int64 to start from.

    Raises:
        ConfigError: There are too few such levels.
    """
    return level_bank(
        f"Sokoban of size {size} with {num_boxes} boxes and at least {min_pushes} pushes",
        lambda n, rng: generate_levels(size, num_boxes, min_pushes, n, rng),
        split=split,
        num_levels=num_levels,
        level_seed=level_seed,
        batch=4096,
    )


def generate_levels(size: int, num_boxes: int, min_pushes: int, n: int, rng: torch.Generator) -> Levels:
    """Up to ``n`` levels, whose boxes were pulled off the targets in a backward game.

    Its player walks at random, mostly turning, and pulls any box behind it along: played forward, every step of it is
    a step or a push. Every so often the position is judged, and the best makes the level if it is good enough.
    """
    floor = dig_rooms(size, n, rng)
    squares = torch.rand(floor.shape, generator=rng).masked_fill(~floor, -1.0).topk(num_boxes + 1, dim=1)
    targets, player = squares.indices.split([num_boxes, 1], 1)
    boxes, heading = targets, torch.zeros_like(player)
    best, most = torch.cat((player, boxes), 1), torch.zeros_like(player)
    offset = torch.tensor([-size, 1, size, -1])
    turns = torch.rand(STEPS, n, 1, generator=rng) < TURN
    headings = torch.randint(4, (STEPS, n, 1), generator=rng)
    for k in range(STEPS):
        heading = torch.where(turns[k], headings[k], heading)
        step = offset[heading]
        ahead = player + step
        clear = floor.gather(1, ahead) & (boxes != ahead).all(1, keepdim=True)
        boxes = torch.where((boxes == player - step) & clear, player, boxes)
        player = torch.where(clear, ahead, player)
        if k % JUDGED == 0:
            pushes = least_pushes(boxes, targets, size)
            best = torch.where(pushes > most, torch.cat((player, boxes), 1), best)
            most = torch.maximum(pushes, most)

    player, boxes = best.split([1, num_boxes], 1)
    board = (~floor).to(torch.uint8)
    for where, what in ((targets, TARGET), (boxes, BOX), (player, PLAYER)):
        board.scatter_add_(1, where, torch.full_like(where, what, dtype=torch.uint8))
    good = (squares.values[:, -1] >= 0) & (most[:, 0] >= min_pushes)  # there is floor for all of them
    return {"board": board.view(n, size, size)[good], "player": player[good, 0], "boxes": boxes[good]}


def least_pushes(boxes: Tensor, targets: Tensor, size: int) -> Tensor:
    """(n, 1) int64: the boxes' distances to targets, whichever goes to which; 0 where a box is on one already."""
    rows = (boxes // size).unsqueeze(2) - (targets // size).unsqueeze(1)
    columns = (boxes % size).unsqueeze(2) - (targets % size).unsqueeze(1)
    distance = rows.abs() + columns.abs()  # (n, boxes, targets)
    each = list(range(boxes.shape[1]))
    sums = [distance[:, each, order].sum(1) for order in permutations(each)]
    return (torch.stack(sums, 1).amin(1) * (distance > 0).flatten(1).all(1)).unsqueeze(1)


def dig_rooms(size: int, n: int, rng: torch.Generator) -> Tensor:
    """(n, size^2) bool: connected floors, dug by a random walk that takes some squares beside its own along."""
    spades = torch.tensor([[-1, 1, 0], [-size, size, 0], [1, size, size + 1], [-1, -size, -size - 1]])
    offset = torch.tensor([-size, 1, size, -1])
    inside = torch.zeros(size, size, dtype=torch.bool)
    inside[1:-1, 1:-1] = True
    inside = inside.flatten()

    here = inside.nonzero()[torch.randint((size - 2) ** 2, (n,), generator=rng)]
    heading, dug = torch.randint(4, (n, 1), generator=rng), []
    for _ in range(DIG * size):
        dug += [here, here + spades[torch.randint(4, (n,), generator=rng)]]
        turns = torch.rand(n, 1, generator=rng) < 0.35
        heading = torch.where(turns, torch.randint(4, (n, 1), generator=rng), heading)
        ahead = here + offset[heading]
        here = torch.where(inside[ahead], ahead, here)
    return torch.zeros(n, size * size, dtype=torch.bool).scatter_(1, torch.cat(dug, 1), True) & inside
