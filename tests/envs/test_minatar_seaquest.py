"""MinAtar's Seaquest plays as that of the authors' package, frame for frame."""

from __future__ import annotations

from functools import cache
from importlib import import_module
from typing import Any

import numpy as np
import pytest
from minatar_reference import Draws, Fields, Frames, Twin, differences, patched, play

from rltrain.envs.minatar.game import DOWN, FIRE, LEFT, NOOP, RIGHT, UP
from rltrain.errors import ConfigError
from rltrain.make import make_env


def seaquest_state(env: Any) -> Fields:
    lanes = {"fish": np.zeros(9, np.int64), "subs": np.zeros(9, np.int64)}
    rightward, loading, fire = np.zeros(9, bool), np.zeros(11, np.int64), np.zeros(9, np.int64)
    used = set()

    def way(x: int, right: bool) -> int:
        return x if right else 9 - x

    for name, things in (("fish", env.e_fish), ("subs", env.e_subs)):
        for x, y, right, timer, *reload in things:
            bit = 1 << 10 * timer + way(x, right)
            assert bit not in used
            assert 0 <= x <= 9
            assert timer <= 5
            used.add(bit)
            lanes[name][y] |= bit
            rightward[y] = right
            if reload:
                loading[reload[0]] |= bit
    for x, y, right in env.e_bullets:
        fire[y] |= 1 << x + 16 * right
    slots = {"bullets": np.zeros(2, np.int64), "divers": np.zeros(2, np.int64)}
    for name, things in (("bullets", env.f_bullets), ("divers", env.divers)):
        assert len(things) <= 2
        for k, (x, y, right, *timer) in enumerate(things):
            slots[name][k] = 1 + 10 * y + x + 100 * bool(right)
            assert not timer or timer[0] == (env.d_spawn_timer - 1) % 6
    level = env.ramp_index
    assert env.e_spawn_speed == max(1, 20 - level)
    assert env.move_speed == max(2, 5 - level // 2)
    return {
        "x": env.sub_x, "y": env.sub_y, "facing": 1 if env.sub_or else -1, "cool_down": env.shot_timer,
        "rightward": rightward, "loading": loading, "fire": fire, "spawn_timer": env.e_spawn_timer,
        "diver_timer": env.d_spawn_timer, "crew": env.diver_count, "oxygen": env.oxygen, "surfaced": env.surface,
        "level": level, **lanes, **slots,
    }  # fmt: skip


def seaquest_chance(before: Fields, drawn: Draws, rng: np.random.Generator) -> Fields:
    left = list(drawn)
    enemy = [left.pop(0) for _ in range(3)] if before["spawn_timer"] == 0 else [*rng.random(2), rng.integers(1, 9)]
    diver = [left.pop(0) for _ in range(2)] if before["diver_timer"] == 0 else [rng.random(), rng.integers(1, 9)]
    assert not left
    return {
        "rightward": enemy[0] < 1 / 2,
        "sub": enemy[1] < 1 / 3,
        "row": enemy[2],
        "diver_rightward": diver[0] < 1 / 2,
        "diver_row": diver[1],
    }


def hunt(env: Any, rng: np.random.Generator) -> int:
    """To divers, away from what hits, up for air, and a shot at what is ahead."""
    danger = set()
    for things in (env.e_fish, env.e_subs, env.e_bullets):
        for x, y, right, *rest in things:
            step = 1 if right else -1
            danger |= {(x, y), (x + step, y)}
            if not rest:  # a bullet
                danger.add((x + 2 * step, y))
    full = env.diver_count >= 6 or (env.oxygen < 45 and env.diver_count != 0) or env.diver_count < 0
    goals = [(env.sub_x, 0)] if full else [(x, y) for x, y, *_ in env.divers] or [(5, 4)]

    def cost(action: int) -> float:
        dx, dy = {NOOP: (0, 0), LEFT: (-1, 0), UP: (0, -1), RIGHT: (1, 0), DOWN: (0, 1), FIRE: (0, 0)}[action]
        x, y = min(max(env.sub_x + dx, 0), 9), min(max(env.sub_y + dy, 0), 8)
        way = min(abs(gx - x) + abs(gy - y) for gx, gy in goals)
        ahead = any(fy == y and (fx > x) == env.sub_or and fx != x for fx, fy, *_ in env.e_fish + env.e_subs)
        bonus = 1.5 if action == FIRE and env.shot_timer == 0 and ahead else 0.0
        dry = y == 0 and env.sub_y > 0 and env.diver_count == 0
        return 100 * ((x, y) in danger) + 1000 * dry + way - bonus + 0.5 * rng.random()

    return min(range(6), key=cost)


TWIN = Twin("seaquest", "rltrain/MinAtar-Seaquest-v1", seaquest_state, seaquest_chance, hunt)
THEIRS = import_module("minatar.environments.seaquest")


def play_from(level: int, crew: int, *, skill: float, undying: bool, steps: int = 3_000) -> Frames:
    """Games from a level on and with divers on board; ``undying`` ones go on after their end, full of enemies."""
    reset, started = THEIRS.Env.reset, []

    def start(env: Any) -> None:
        if undying and started == [env]:
            env.terminal, env.oxygen = False, env.oxygen if env.oxygen > 0 else 200
            return
        reset(env)
        env.ramp_index, env.e_spawn_speed, env.move_speed = level, max(1, 20 - level), max(2, 5 - level // 2)
        env.diver_count, env.e_spawn_timer = crew, env.e_spawn_speed
        if undying:
            started[:] = [env]

    with patched(THEIRS.Env, reset=start):
        return play(TWIN, steps, skill=skill, seed=level + crew)


CASES = [
    {"level": 0, "crew": 0, "skill": 0.0, "undying": False},
    {"level": 0, "crew": 0, "skill": 0.95, "undying": False},
    *({"level": level, "crew": 2, "skill": 0.9, "undying": False} for level in (3, 6, 12, 18)),
    {"level": 0, "crew": 5, "skill": 0.6, "undying": True},
    {"level": 5, "crew": 4, "skill": 0.5, "undying": True},
    {"level": 17, "crew": 6, "skill": 0.3, "undying": True},
    {"level": 19, "crew": 0, "skill": 0.0, "undying": True},
    {"level": 19, "crew": 3, "skill": 0.9, "undying": True},
]


@cache
def frames_of(case: int) -> Frames:
    return play_from(**CASES[case])


@pytest.mark.parametrize("case", range(len(CASES)), ids=map(str, CASES))
def test_every_frame_is_theirs(case: int) -> None:
    assert differences(TWIN, frames_of(case)) == {}


def test_every_frame_is_theirs_with_other_constants() -> None:
    assert differences(TWIN, play(TWIN, 2_000, skill=0.95, ramping=False), difficulty_ramping=False) == {}
    with patched(THEIRS, max_oxygen=70):
        assert differences(TWIN, play(TWIN, 2_000, skill=0.95), max_oxygen=70) == {}


def test_the_frames_compared_are_of_all_kinds() -> None:
    frames = [frames_of(case) for case in range(len(CASES))]
    rows = [row for part in frames for row in zip(part.before, part.after, part.reward, part.terminal, strict=True)]
    assert sum(end for *_, end in rows) > 500
    assert sum(reward == 1 for *_, reward, _ in rows) > 300  # an enemy shot
    assert sum(reward > 2 for *_, reward, _ in rows) > 5  # six divers brought up
    assert sum(b["surfaced"] > a["surfaced"] for a, b, *_ in rows) > 200
    assert sum(b["level"] > a["level"] for a, b, *_ in rows) > 100
    assert sum(b["crew"] < 0 for _, b, *_ in rows) > 1_000
    assert sum(b["bullets"][1] != 0 for _, b, *_ in rows) > 500  # two bullets at once
    assert sum(b["divers"][1] != 0 for _, b, *_ in rows) > 500  # two divers at once
    assert sum(a["oxygen"] == 0 for a, *_ in rows) > 5


def test_wrong_constants_are_refused() -> None:
    for wrong in ({"difficulty_ramping": 1}, {"max_oxygen": 0}, {"sticky_action_prob": -0.1}):
        with pytest.raises(ConfigError, match=next(iter(wrong))):
            make_env(TWIN.env_id, **wrong)
