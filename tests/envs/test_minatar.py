"""MinAtar's games play as those of the authors' package, frame for frame."""

from __future__ import annotations

from functools import cache
from importlib import import_module
from typing import Any

import minatar.gym
import numpy as np
import pytest
import torch
from minatar import Environment
from minatar_reference import Draws, Fields, Frames, Twin, batch, differences, patched, play

from rltrain.env import TensorEnv
from rltrain.envs.minatar.game import DOWN, FIRE, LEFT, NOOP, RIGHT, UP, MinAtarGame
from rltrain.errors import ConfigError
from rltrain.make import make_env
from rltrain.tree import leaves

STEPS = 5_000  # frames of a game that is played well, and again of one that is played at random
SIGN = {0: (-1, -1), 1: (1, -1), 2: (1, 1), 3: (-1, 1)}  # their directions in Breakout: across, down


def breakout_state(env: Any) -> Fields:
    dx, dy = SIGN[env.ball_dir]
    bits = 1 << np.arange(30)
    return {
        "x": env.ball_x, "y": env.ball_y, "dx": dx, "dy": dy, "last_x": env.last_x, "last_y": env.last_y,
        "paddle": env.pos, "bricks": int(bits[env.brick_map[1:4].ravel() > 0].sum()), "struck": env.strike,
    }  # fmt: skip


def follow_the_ball(env: Any, rng: np.random.Generator) -> int:
    """Under the ball, or, one time in five, to where it is flying."""
    goal = env.ball_x + (rng.random() < 0.2) * SIGN[env.ball_dir][0]
    return NOOP if goal == env.pos else LEFT if goal < env.pos else RIGHT


def scramble_breakout(env: Any, rng: np.random.Generator) -> None:
    env.ball_x, env.ball_y, env.last_x, env.last_y, env.pos = (int(k) for k in rng.integers((10, 9, 10, 9, 10)))
    env.ball_dir, env.strike = int(rng.integers(4)), bool(rng.random() < 0.5)
    env.brick_map[1:4] = rng.random((3, 10)) < rng.choice([0.0, 0.3, 0.7, 1.0])


def asterix_state(env: Any) -> Fields:
    kind, x = np.zeros(8, dtype=int), np.zeros(8, dtype=int)
    for i, entity in enumerate(env.entities):
        if entity is not None:
            assert entity[1] == i + 1
            kind[i], x[i] = (1 + entity[3]) * (1 if entity[2] else -1), entity[0]
    return {
        "player_x": env.player_x, "player_y": env.player_y, "kind": kind, "x": x, "spawn_timer": env.spawn_timer,
        "move_timer": env.move_timer, "ramp_timer": env.ramp_timer, "level": env.ramp_index,
    }  # fmt: skip


def asterix_chance(before: Fields, drawn: Draws, rng: np.random.Generator) -> Fields:
    side, kind, lane = (*drawn, *rng.random(3)[len(drawn) :])
    empty = int((before["kind"] == 0).sum())
    return {
        "rightward": side < 1 / 2,
        "treasure": kind < 1 / 3,
        "lane": (lane + 0.5) / empty if len(drawn) == 3 else lane,
    }


def dodge(env: Any, rng: np.random.Generator) -> int:
    """To the nearest treasure, by cells where no enemy is or may be next."""
    things = [thing for thing in env.entities if thing is not None]
    enemies = {(x + ahead, y) for x, y, right, gold in things if not gold for ahead in (0, 1 if right else -1)}
    treasures = [(x, y) for x, y, _, gold in things if gold] or [(5, 5)]

    def cost(action: int) -> float:
        dx, dy = {NOOP: (0, 0), LEFT: (-1, 0), UP: (0, -1), RIGHT: (1, 0), DOWN: (0, 1)}[action]
        x, y = min(max(env.player_x + dx, 0), 9), min(max(env.player_y + dy, 1), 8)
        way = min(abs(gold_x - x) + abs(gold_y - y) for gold_x, gold_y in treasures)
        return 100 * ((x, y) in enemies) + way + 0.1 * rng.random()

    return min((NOOP, LEFT, UP, RIGHT, DOWN), key=cost)


def scramble_asterix(env: Any, rng: np.random.Generator) -> None:
    level = int(rng.integers(10))
    env.ramp_index, env.spawn_speed, env.move_speed = level, max(1, 10 - level), max(1, 5 - level // 2)
    env.spawn_timer, env.move_timer = int(rng.integers(env.spawn_speed)), int(rng.integers(env.move_speed))
    env.ramp_timer = int(rng.integers(-1, 101))
    env.player_x, env.player_y = int(rng.integers(10)), int(rng.integers(1, 9))
    share = rng.choice([0.5, 0.9, 1.0])
    env.entities = [
        [int(rng.integers(10)), i + 1, bool(rng.random() < 0.5), bool(rng.random() < 0.5)]
        if rng.random() < share
        else None
        for i in range(8)
    ]


def freeway_state(env: Any) -> Fields:
    x, row, timer, speed = np.array(env.cars).T
    assert row.tolist() == list(range(1, 9))
    return {"y": env.pos, "move_timer": env.move_timer, "x": x, "pause": speed, "timer": timer}


def freeway_chance(before: Fields, drawn: Draws, rng: np.random.Generator) -> Fields:
    speeds, sides = drawn or (rng.integers(1, 6, 8), rng.random(8))
    return {"pause": np.where(sides < 0.5, -speeds, speeds)}


def scramble_freeway(env: Any, rng: np.random.Generator) -> None:
    env.pos, env.move_timer, env.terminate_timer = int(rng.integers(1, 10)), int(rng.integers(4)), 99
    for car, x, speed, rested in zip(
        env.cars, rng.integers(10, size=8), rng.integers(1, 6, 8), rng.random(8), strict=True
    ):
        car[0], car[2], car[3] = x, int(rested * (speed + 1)), speed if rng.random() < 0.5 else -speed


def nothing(before: Fields, drawn: Draws, rng: np.random.Generator) -> Fields:
    assert not drawn
    return {}


def cross(env: Any, rng: np.random.Generator) -> int:
    return UP


def space_invaders_state(env: Any) -> Fields:
    def rows(cells: np.ndarray) -> np.ndarray:
        return ((cells > 0) << np.arange(10)).sum(1)

    return {
        "cannon": env.pos, "aliens": rows(env.alien_map), "bullets": rows(env.f_bullet_map),
        "enemy_bullets": rows(env.e_bullet_map), "rightward": env.alien_dir > 0,
        "alive": int(np.count_nonzero(env.alien_map)), "reload_timer": int(env.shot_timer),
        "move_timer": env.alien_move_timer, "shot_timer": env.alien_shot_timer,
        "move_interval": env.enemy_move_interval,
    }  # fmt: skip


def shoot_and_dodge(env: Any, rng: np.random.Generator) -> int:
    """Out from under what falls, else towards the nearest column of aliens that is farthest down, firing."""

    def hit(x: int) -> bool:
        return bool(env.e_bullet_map[7:9, x].any() or env.alien_map[8:, x].any())

    ways = {NOOP: env.pos, LEFT: max(env.pos - 1, 0), RIGHT: min(env.pos + 1, 9)}
    safe = [action for action, x in ways.items() if not hit(x)] or [NOOP]
    if NOOP not in safe:
        return safe[0]
    ahead = env.alien_map.any(0)
    goal = min(range(10), key=lambda x: (not ahead[x], abs(x - env.pos)))
    if env.shot_timer == 0 and ahead[env.pos]:
        return FIRE
    wanted = NOOP if goal == env.pos else LEFT if goal < env.pos else RIGHT
    return wanted if wanted in safe else NOOP


def scramble_space_invaders(env: Any, rng: np.random.Generator) -> None:
    env.pos, env.alien_dir = int(rng.integers(10)), int(rng.choice([-1, 1]))
    env.shot_timer, env.enemy_move_interval = int(rng.integers(5)), int(rng.integers(6, 13))
    env.alien_move_timer, env.alien_shot_timer = int(rng.integers(4)), int(rng.integers(4))
    env.alien_map = (rng.random((10, 10)) < rng.choice([0.02, 0.1, 0.5])).astype(float)
    env.alien_map[:, :: int(rng.choice([1, 9]))] *= rng.random() < 0.5
    env.alien_map[rng.integers(9), rng.integers(10)] = 1
    env.f_bullet_map = (rng.random((10, 10)) < 0.2).astype(float)
    env.f_bullet_map[9] = 0
    env.e_bullet_map = (rng.random((10, 10)) < 0.2).astype(float)


TWINS = [
    Twin("breakout", "rltrain/MinAtar-Breakout-v1", breakout_state, nothing, follow_the_ball, scramble_breakout),
    Twin("asterix", "rltrain/MinAtar-Asterix-v1", asterix_state, asterix_chance, dodge, scramble_asterix),
    Twin("freeway", "rltrain/MinAtar-Freeway-v1", freeway_state, freeway_chance, cross, scramble_freeway),
    Twin(
        "space_invaders",
        "rltrain/MinAtar-SpaceInvaders-v1",
        space_invaders_state,
        nothing,
        shoot_and_dodge,
        scramble_space_invaders,
    ),
]
BREAKOUT, ASTERIX, FREEWAY, SPACE_INVADERS = TWINS
every_game = pytest.mark.parametrize("twin", TWINS, ids=lambda twin: twin.module)

FAST = {"ramp_interval": 1, "init_spawn_speed": 3, "init_move_interval": 9}
CASES: list[tuple[Twin, dict, dict, dict]] = [  # the game, how it is played, constants: their module's, ours
    *((twin, {"skill": skill, "seed": 1}, {}, {}) for twin in TWINS for skill in (0.0, 0.95)),
    *((twin, {"skill": 1.0, "sticky": 0.0}, {}, {}) for twin in TWINS),
    *((twin, {"scramble": True}, {}, {}) for twin in TWINS),
    (BREAKOUT, {"skill": 0.9, "sticky": 0.6}, {}, {}),
    (ASTERIX, {"skill": 1.0, "ramping": False}, {}, {"difficulty_ramping": False}),
    (ASTERIX, {"skill": 0.9}, FAST, {"ramp_interval": 1, "spawn_interval": 3, "move_interval": 9}),
    (FREEWAY, {"skill": 0.9}, {"player_speed": 1}, {"move_interval": 1}),
    (SPACE_INVADERS, {"skill": 1.0, "ramping": False}, {}, {"difficulty_ramping": False}),
    (
        SPACE_INVADERS,
        {"skill": 0.9},
        {"shot_cool_down": 2, "enemy_shot_interval": 4},
        {"reload_interval": 2, "shot_interval": 4},
    ),
]


@cache
def frames_of(case: int) -> Frames:
    twin, how, theirs, _ = CASES[case]
    with patched(import_module(f"minatar.environments.{twin.module}"), **theirs):
        frames = play(twin, STEPS, **how)
    if twin is FREEWAY:  # the end of a game is a time limit of ours
        assert set(frames.lengths) <= {make_env(twin.env_id).max_episode_steps}
        frames.terminal = [False] * len(frames.terminal)
    return frames


@pytest.mark.parametrize("case", range(len(CASES)), ids=[f"{twin.module}-{how}" for twin, how, *_ in CASES])
def test_every_frame_is_theirs(case: int) -> None:
    twin, *_, ours = CASES[case]
    assert differences(twin, frames_of(case), **ours) == {}


def test_the_frames_compared_are_of_all_kinds() -> None:
    def changes(game: Twin) -> list[tuple[Fields, Fields]]:
        frames = [frames_of(case) for case, (twin, *_) in enumerate(CASES) if twin is game]
        return [pair for part in frames for pair in zip(part.before, part.after, strict=True)]

    breakout, asterix, freeway, invaders = map(changes, TWINS)
    assert sum(a["bricks"] == 0 < b["bricks"] for a, b in breakout) > 50  # a new wall
    assert sum(a["struck"] and b["struck"] for a, b in breakout) > 100  # a brick flown through
    assert sum(a["dx"] != b["dx"] and a["dy"] != b["dy"] for a, b in breakout) > 100  # off an edge or out of a corner
    assert sum(a["level"] == 9 for a, _ in asterix) > 500  # as hard as it gets
    assert sum(all(a["kind"]) and a["spawn_timer"] == 0 for a, _ in asterix) > 500  # no room for anything new
    assert sum(a["y"] == 1 and b["y"] == 9 for a, b in freeway) > 200  # across, or hit in the topmost lane
    assert sum(1 < a["y"] < 9 and b["y"] == 9 for a, b in freeway) > 500  # hit
    assert sum(a["alive"] < b["alive"] for a, b in invaders) > 50  # a new wave
    assert sum(a["rightward"] != b["rightward"] for a, b in invaders) > 500  # a turn
    assert sum(a["move_interval"] == 6 for a, _ in invaders) > 200  # as fast as it gets


def test_a_difference_would_be_found() -> None:
    frames = frames_of(0)
    assert differences(BREAKOUT, frames, sticky_action_prob=0.9) == {}  # chance is theirs
    assert differences(BREAKOUT, Frames(**{**vars(frames), "action": [NOOP] * STEPS})).keys() >= {"paddle", "obs"}
    assert differences(FREEWAY, frames_of(4), move_interval=2).keys() == {"move_timer"}


@every_game
def test_spaces_and_channels_are_theirs(twin: Twin) -> None:
    for minimal in (True, False):
        theirs = minatar.gym.BaseEnv(twin.module, use_minimal_action_set=minimal)
        ours = make_env(twin.env_id, minimal_actions=minimal)
        assert isinstance(ours, MinAtarGame)
        assert ours.observation_space == theirs.observation_space
        assert ours.action_space == theirs.action_space
        assert list(ours.channels) == list(theirs.game.env.channels)
        assert list(ours.moves) == theirs.game.minimal_action_set()


@every_game
def test_minimal_actions_are_the_moves_of_six(twin: Twin) -> None:
    few, all_six = make_env(twin.env_id), make_env(twin.env_id, minimal_actions=False)
    assert isinstance(few, MinAtarGame)
    action = torch.randint(len(few.moves), (200, 64), generator=torch.Generator().manual_seed(0))
    rngs = [torch.Generator().manual_seed(1) for _ in range(2)]
    states = [few.reset(64, rngs[0]), all_six.reset(64, rngs[1])]
    for row in action:
        states = [
            few.step(states[0], row, rngs[0])[0],
            all_six.step(states[1], torch.tensor(few.moves)[row], rngs[1])[0],
        ]
        assert all(torch.equal(a, b) for a, b in zip(*map(leaves, states), strict=True))


@every_game
def test_starts_are_theirs(twin: Twin) -> None:
    """All of them, as often."""
    env, theirs = make_env(twin.env_id), Environment(twin.module)
    state = env.reset(4000, torch.Generator().manual_seed(0))
    rows = []
    theirs.seed(0)
    for _ in range(400):
        theirs.reset()
        rows.append(twin.state(theirs.env) | {"last_action": 0})
    expected = batch(rows, state)
    for name, ours in vars(state).items():
        values, counts = torch.unique(ours, return_counts=True)
        their_values, their_counts = torch.unique(getattr(expected, name), return_counts=True)
        assert torch.equal(values, their_values), name
        torch.testing.assert_close(counts / ours.numel(), their_counts / their_counts.sum(), rtol=0, atol=0.05)
    if twin is FREEWAY:
        assert torch.equal(state.timer, state.pause.abs())


def chi_square(values: torch.Tensor, shares: list[float]) -> float:
    """Of whole numbers from 0 against their probabilities, by its expectation: about 1 if they are right."""
    counts = torch.bincount(values.flatten().long(), minlength=len(shares)).double()
    assert len(counts) == len(shares)
    expected = counts.sum() * torch.tensor(shares, dtype=torch.float64)
    return float(((counts - expected) ** 2 / expected).sum()) / (len(shares) - 1)


def test_chance_is_spread_as_it_should() -> None:
    n, rng = 40_000, torch.Generator().manual_seed(0)
    for twin in TWINS:
        env = make_env(twin.env_id, sticky_action_prob=0.3)
        assert isinstance(env, MinAtarGame)
        assert chi_square(env.draw(n, rng).repeat, [0.7, 0.3]) < 4

    asterix = make_env(ASTERIX.env_id).draw(n, rng)  # type: ignore[attr-defined]
    both = 2 * asterix.rightward + asterix.treasure + 4 * (asterix.lane * 8).long()
    assert chi_square(both, [1 / 3 / 8, 1 / 6 / 8] * 16) < 1.6
    pause = make_env(FREEWAY.env_id).draw(n, rng).pause  # type: ignore[attr-defined]
    cars = pause + 5 - (pause > 0).to(torch.int8)
    assert chi_square(cars, [0.1] * 10) < 2
    assert chi_square(10 * cars[:, 0].long() + cars[:, 7], [0.01] * 100) < 1.5


def test_new_things_are_spread_over_the_empty_lanes() -> None:
    n, rng = 40_000, torch.Generator().manual_seed(0)
    env: TensorEnv = make_env(ASTERIX.env_id)
    state = env.reset(n, rng)
    state.kind = torch.tensor([1, 0, 0, -2, 1, 0, 0, 2], dtype=torch.int8).expand(n, 8)
    state.spawn_timer = torch.zeros_like(state.spawn_timer)
    after, _, _ = env.step(state, torch.zeros(n, dtype=torch.int64), rng)
    new = (after.kind != 0) & (state.kind == 0)
    assert torch.equal(new.sum(1), torch.ones(n, dtype=torch.int64))
    assert chi_square(new.to(torch.int8).argmax(1), [1e-9, 0.25, 0.25, 1e-9, 1e-9, 0.25, 0.25, 1e-9]) < 3


@pytest.mark.parametrize(
    "wrong",
    [
        (BREAKOUT, {"sticky_action_prob": 1.1}),
        (BREAKOUT, {"minimal_actions": 1}),
        (ASTERIX, {"difficulty_ramping": "no"}),
        (ASTERIX, {"spawn_interval": 0}),
        (ASTERIX, {"move_interval": 0}),
        (ASTERIX, {"ramp_interval": 0}),
        (FREEWAY, {"move_interval": 0}),
        (SPACE_INVADERS, {"difficulty_ramping": 1}),
        (SPACE_INVADERS, {"move_interval": 0}),
        (SPACE_INVADERS, {"shot_interval": 0.5}),
        (SPACE_INVADERS, {"reload_interval": 0}),
    ],
)
def test_wrong_constants_are_refused(wrong: tuple[Twin, dict]) -> None:
    with pytest.raises(ConfigError, match=next(iter(wrong[1]))):
        make_env(wrong[0].env_id, **wrong[1])
