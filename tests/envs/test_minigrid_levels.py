"""The start worlds of MiniGrid's tasks: as frequent as in the package minigrid 3.2, and solvable."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from test_minigrid import IDS, OTHERS, look_at, make_both
from torch import Tensor
from torch.nn.functional import max_pool2d

from rltrain.envs.grid.chance import below, but, choose
from rltrain.envs.grid.dynamic_obstacles import DynamicObstacles
from rltrain.envs.grid.things import EMPTY, Kind

DRAWN = 4_000  # worlds of ours
SEEN = 500  # worlds of MiniGrid's
DRAWS = [name for name in (*IDS, *OTHERS) if "Empty" not in name or "Random" in name]  # whose worlds differ


def their_starts(theirs: Any) -> tuple[Tensor, ...]:
    """Cells, positions and directions of worlds that MiniGrid draws."""
    theirs.reset(seed=2)
    looks = []
    for _ in range(SEEN):
        theirs.agent_pos = (-1, -1)
        theirs._gen_grid(theirs.width, theirs.height)
        looks.append(look_at(theirs))
    return tuple(torch.tensor([look[name] for look in looks]) for name in ("cells", "position", "direction"))


def facts_of(cells: Tensor, position: Tensor, direction: Tensor) -> Tensor:
    """(n, F) 0 or 1: what each cell holds, where the agent is and looks, what colours there are, how many doors."""
    kinds = cells >> 3
    doors = (kinds == Kind.CLOSED_DOOR).sum(1)
    facts = [kinds == kind for kind in Kind]
    facts += [number.unsqueeze(1) == torch.arange(bound) for number, bound in ((direction, 4), (doors, 16))]
    facts.append(position.unsqueeze(1) == torch.arange(cells.shape[1]))
    things = (Kind.KEY, Kind.BALL, Kind.CLOSED_DOOR, Kind.LOCKED_DOOR)
    facts += [(cells == 8 * kind + colour).any(1, keepdim=True) for kind in things for colour in range(6)]
    return torch.cat(facts, 1)


@pytest.mark.parametrize("name", DRAWS)
def test_worlds_are_drawn_as_in_minigrid(name: str) -> None:
    """Every fact holds as often, and every two facts together; where proportions differ, within chance."""
    theirs, ours = make_both(name)
    state = ours.reset(DRAWN, torch.Generator().manual_seed(2))
    mine, yours = facts_of(state.cells, state.position, state.direction), facts_of(*their_starts(theirs))
    varies = (mine != mine[0]).any(0) | (yours != mine[0]).any(0)
    mine, yours = mine[:, varies].float(), yours[:, varies].float()
    mine_both, yours_both = mine.T @ mine, yours.T @ yours  # how many worlds two facts hold in; by itself: diagonal

    share = (mine_both + yours_both) / (DRAWN + SEEN)
    deviation = (mine_both / DRAWN - yours_both / SEEN) / (share * (1 - share) * (1 / DRAWN + 1 / SEEN)).sqrt()
    common = (share > 20 / SEEN) & (share < 1 - 20 / SEEN)
    assert common.sum() > 10
    assert deviation[common].abs().max() < 4.5
    assert not ((yours_both == 0) & (mine_both > 20 * DRAWN / SEEN)).any()
    assert not ((mine_both == 0) & (yours_both > 3)).any()


def reach(passable: Tensor, start: Tensor, width: int) -> Tensor:
    """(n, H, W) bool: the passable cells that can be reached from ``start`` (n,)."""
    floor = passable.view(len(start), 1, -1, width).float()
    reached = torch.zeros_like(floor).flatten(1).scatter(1, start.unsqueeze(1), 1.0).view_as(floor)
    for _ in range(floor[0].numel()):
        further = torch.maximum(max_pool2d(reached, (3, 1), 1, (1, 0)), max_pool2d(reached, (1, 3), 1, (0, 1))) * floor
        if torch.equal(further, reached):
            break
        reached = further
    return reached.flatten(1).bool()


@pytest.mark.parametrize("name", [*IDS, *OTHERS])
def test_every_world_can_be_solved(name: str) -> None:
    _, ours = make_both(name)
    state = ours.reset(DRAWN // 2, torch.Generator().manual_seed(3))
    cells, position = state.cells[:, :-1], state.position
    kinds = cells >> 3
    blocked = (kinds == Kind.WALL) | (kinds == Kind.LAVA)
    locked = kinds == Kind.LOCKED_DOOR
    before_unlocking = reach(~(blocked | locked), position, ours.width)
    at_last = reach(~blocked, position, ours.width)
    assert (cells.gather(1, position.unsqueeze(1)) == EMPTY).all()
    if locked.any():
        key = kinds == Kind.KEY
        assert (key & before_unlocking).any(1).all()
        assert ((cells & 7)[key] == (cells & 7)[locked]).all()
        aim = {"Unlock": locked, "DoorKey": kinds == Kind.GOAL}.get(name.split("-")[1], kinds == Kind.BALL)
        assert not (aim & before_unlocking).any()
    elif hasattr(state, "right_end"):
        aim = torch.zeros_like(locked).scatter(1, state.right_end.unsqueeze(1), True)
        assert at_last.gather(1, state.wrong_end.unsqueeze(1)).all()
    else:
        aim = kinds == Kind.GOAL
    assert (aim.sum(1) == 1).all()
    assert (aim & at_last).any(1).all()


def test_balls_move_to_any_free_cell_and_stay_where_there_is_none() -> None:
    env = DynamicObstacles(size=5, n_obstacles=2)
    # Inside: agent, free, ball / free, ball, free / free, free, goal. The first ball has two free cells to go to.
    n = 30_000
    state = env.reset(n, torch.Generator().manual_seed(0))
    cells = env._room.expand(n, -1).clone()
    cells[:, 8] = cells[:, 12] = state.cells[0, state.obstacles[0, 0]]
    state.cells, state.obstacles = cells, torch.tensor([[8, 12]]).expand(n, -1)
    after, _, _ = env.step(state, torch.zeros(n, dtype=torch.int64), torch.Generator().manual_seed(1))
    first, count = after.obstacles[:, 0].unique(return_counts=True)
    assert first.tolist() == [7, 13]
    expected = n / 2
    assert float(((count - expected) ** 2 / expected).sum()) < 11  # chi-square, 1 degree of freedom: p = 0.001
    second = after.obstacles[after.obstacles[:, 0] == 7][:, 1]
    cell, count = second.unique(return_counts=True)
    assert cell.tolist() == [8, 11, 13, 16, 17]
    expected = len(second) / 5
    assert float(((count - expected) ** 2 / expected).sum()) < 18.5  # 4 degrees of freedom
    assert (after.cells.scatter(1, after.obstacles, EMPTY) == env._room).all()

    cells = state.cells.clone()
    cells[:, [7, 13]] = 8 * Kind.BOX
    state.cells = cells
    after = env.move(state, torch.full((n, 2), 839))
    assert (after.obstacles[:, 0] == 8).all()


def test_choices_are_uniform() -> None:
    u = torch.linspace(0, 1, 60_001)[:-1]
    assert below(u, 6).bincount().tolist() == [10_000] * 6
    assert below(torch.tensor([1 - 2**-24]), 361).tolist() == [360]
    assert but(torch.arange(4), torch.tensor(2)).tolist() == [0, 1, 3, 4]
    allowed = torch.tensor([False, True, True, False, True, False]).expand(60_000, -1)
    assert choose(allowed, u).bincount().tolist() == [0, 20_000, 20_000, 0, 20_000]
    assert choose(torch.zeros(1, 6, dtype=torch.bool), u[:1]).tolist() == [6]  # none
