"""Gymnasium's MuJoCo tasks, version 5, for many rows at once: observation, reward and end from MuJoCo's arrays.

The formulas are those of ``gymnasium.envs.mujoco``, in its order of operations. MuJoCo's arrays hold what its own
``mj_step`` leaves in them, so positions of bodies and forces of contacts are a part of a step older than ``qpos`` and
``qvel``, as they are in Gymnasium. :mod:`rltrain.adapters.mujoco_loop` steps the rows.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

Arrays = Mapping[str, np.ndarray]
"""MuJoCo's arrays by their names in ``MjData``, (N, ...) each, and ``action`` (N, A), float32."""
Info = dict[str, np.ndarray]
Outcome = tuple[np.ndarray, np.ndarray, Info]
"""The reward (N,), ``terminated`` (N,) bool, and the numbers in info by name, (N,) each."""


BEFORE_2 = np.lib.NumpyVersion(np.__version__) < "2.0.0"
"""Whether a 32-bit number times one of Python's is a 64-bit number, as Gymnasium's rewards then are on the way."""


class Task:
    """What the tasks have in common.

    Args:
        env: Gymnasium's environment without its wrappers.
        options: The arguments of its constructor, defaults included.
    """

    fields: tuple[str, ...] = ("qpos", "qvel")
    """MuJoCo's arrays that it reads."""
    forces = False
    """Whether it reads forces of contacts, which MuJoCo computes only when told."""

    def __init__(self, env: Any, options: Mapping[str, Any]) -> None:
        self.dt = env.dt  # s
        self.options = options

    def place(self, now: Arrays) -> np.ndarray:
        """What a step's progress is measured from: the x-coordinate (N,), m, or x and y (N, 2)."""
        return now["qpos"][:, 0].copy()

    def observe(self, now: Arrays) -> np.ndarray:
        """Observations (N, O)."""
        raise NotImplementedError

    def outcome(self, before: np.ndarray, now: Arrays) -> Outcome:
        """What a step gave, from the :meth:`place` before it and the arrays after it."""
        raise NotImplementedError

    def ended(self, healthy: np.ndarray) -> np.ndarray:
        """Where the episode is over, (N,) bool."""
        return ~healthy if self.options["terminate_when_unhealthy"] else np.zeros_like(healthy)

    def positions(self, now: Arrays, skipped: int) -> np.ndarray:
        """``qpos`` as it is observed: without its first coordinates unless told otherwise."""
        return now["qpos"][:, skipped if self.options["exclude_current_positions_from_observation"] else 0 :]


class HalfCheetah(Task):
    """``HalfCheetah-v5``: it never ends by itself."""

    def observe(self, now: Arrays) -> np.ndarray:
        return np.concatenate((self.positions(now, 1), now["qvel"]), axis=1)

    def outcome(self, before: np.ndarray, now: Arrays) -> Outcome:
        x = now["qpos"][:, 0]
        velocity = (x - before) / self.dt
        forward = self.options["forward_reward_weight"] * velocity
        ctrl = self.options["ctrl_cost_weight"] * squares(now["action"])
        info = {"x_position": x, "x_velocity": velocity, "reward_forward": forward, "reward_ctrl": -ctrl}
        return forward - ctrl, np.zeros(len(x), dtype=np.bool_), info


class Walker2d(Task):
    """``Walker2d-v5``: it ends where the walker has fallen."""

    def __init__(self, env: Any, options: Mapping[str, Any]) -> None:
        super().__init__(env, options)
        self.height = env.init_qpos[1]  # m, at the start

    def healthy(self, now: Arrays) -> np.ndarray:
        """Where it stands: height and angle of the torso are within their bounds, (N,) bool."""
        z, angle = now["qpos"][:, 1], now["qpos"][:, 2]
        return between(z, self.options["healthy_z_range"]) & between(angle, self.options["healthy_angle_range"])

    def observe(self, now: Arrays) -> np.ndarray:
        return np.concatenate((self.positions(now, 1), now["qvel"].clip(-10, 10)), axis=1)

    def outcome(self, before: np.ndarray, now: Arrays) -> Outcome:
        healthy, (x, z) = self.healthy(now), now["qpos"][:, :2].T
        velocity = (x - before) / self.dt
        forward = self.options["forward_reward_weight"] * velocity
        survive = healthy * self.options["healthy_reward"]
        ctrl = self.options["ctrl_cost_weight"] * squares(now["action"])
        info = {"x_position": x, "z_distance_from_origin": z - self.height, "x_velocity": velocity}
        info |= {"reward_forward": forward, "reward_ctrl": -ctrl, "reward_survive": survive}
        return forward + survive - ctrl, self.ended(healthy), info


class Hopper(Walker2d):
    """``Hopper-v5``: a walker with one leg, whose other coordinates have bounds too."""

    def healthy(self, now: Arrays) -> np.ndarray:
        rest = np.concatenate((now["qpos"][:, 2:], now["qvel"]), axis=1)
        return super().healthy(now) & between(rest, self.options["healthy_state_range"]).all(axis=1)


class Ant(Task):
    """``Ant-v5``: it ends where the torso is too low or too high."""

    fields: tuple[str, ...] = ("qpos", "qvel", "xpos", "cfrc_ext")
    forces = True

    def __init__(self, env: Any, options: Mapping[str, Any]) -> None:
        super().__init__(env, options)
        self.body = env.model.body(options["main_body"]).id

    def place(self, now: Arrays) -> np.ndarray:
        return now["xpos"][:, self.body, :2].copy()

    def healthy(self, now: Arrays) -> np.ndarray:
        """Where the torso is within its bounds, (N,) bool."""
        low, high = self.options["healthy_z_range"]
        z, finite = now["qpos"][:, 2], np.isfinite(now["qpos"]).all(axis=1) & np.isfinite(now["qvel"]).all(axis=1)
        return finite & (low <= z) & (z <= high)

    def contacts(self, now: Arrays) -> np.ndarray:
        """Forces of contacts on each body as they are punished, (N, bodies, 6)."""
        return now["cfrc_ext"].clip(*self.options["contact_force_range"])

    def contact_cost(self, now: Arrays) -> np.ndarray:
        """(N,)."""
        return self.options["contact_cost_weight"] * squares(rows(self.contacts(now)))

    def ctrl_cost(self, now: Arrays) -> np.ndarray:
        """(N,)."""
        return self.options["ctrl_cost_weight"] * squares(now["action"])

    def observe(self, now: Arrays) -> np.ndarray:
        parts = [self.positions(now, 2), now["qvel"]]
        if self.options["include_cfrc_ext_in_observation"]:
            parts.append(rows(self.contacts(now)[:, 1:]))
        return np.concatenate(parts, axis=1)

    def outcome(self, before: np.ndarray, now: Arrays) -> Outcome:
        healthy, (x, y) = self.healthy(now), now["qpos"][:, :2].T
        x_velocity, y_velocity = ((self.place(now) - before) / self.dt).T
        forward = x_velocity * self.options["forward_reward_weight"]
        survive = healthy * self.options["healthy_reward"]
        ctrl, contact = self.ctrl_cost(now), self.contact_cost(now)
        info = {"x_position": x, "y_position": y, "x_velocity": x_velocity, "y_velocity": y_velocity}
        info |= {"reward_forward": forward, "reward_ctrl": -ctrl, "reward_contact": -contact, "reward_survive": survive}
        info["distance_from_origin"] = np.sqrt(x * x + y * y)
        return (forward + survive) - (ctrl + contact), self.ended(healthy), info


class Humanoid(Ant):
    """``Humanoid-v5``: progress is that of the centre of mass."""

    fields = ("qpos", "qvel", "xipos", "cinert", "cvel", "qfrc_actuator", "cfrc_ext")

    def __init__(self, env: Any, options: Mapping[str, Any]) -> None:
        Task.__init__(self, env, options)
        self.mass = env.model.body_mass  # (bodies,) kg

    def place(self, now: Arrays) -> np.ndarray:
        return np.einsum("b,nbj->nj", self.mass, now["xipos"])[:, :2] / self.mass.sum()

    def healthy(self, now: Arrays) -> np.ndarray:
        return between(now["qpos"][:, 2], self.options["healthy_z_range"])

    def contacts(self, now: Arrays) -> np.ndarray:
        return now["cfrc_ext"]

    def contact_cost(self, now: Arrays) -> np.ndarray:
        return super().contact_cost(now).clip(*self.options["contact_cost_range"])

    def ctrl_cost(self, now: Arrays) -> np.ndarray:
        return self.options["ctrl_cost_weight"] * squares(now["action"].astype(np.float64))

    def observe(self, now: Arrays) -> np.ndarray:
        seen = {"cinert": now["cinert"][:, 1:], "cvel": now["cvel"][:, 1:]}
        seen |= {"qfrc_actuator": now["qfrc_actuator"][:, 6:], "cfrc_ext": now["cfrc_ext"][:, 1:]}
        parts = [rows(part) for name, part in seen.items() if self.options[f"include_{name}_in_observation"]]
        return np.concatenate((self.positions(now, 2), now["qvel"], *parts), axis=1)


class Reacher(Task):
    """``Reacher-v5``: it never ends by itself."""

    fields = ("qpos", "qvel", "xpos")

    def __init__(self, env: Any, options: Mapping[str, Any]) -> None:
        super().__init__(env, options)
        self.finger, self.target = (env.model.body(name).id for name in ("fingertip", "target"))

    def gap(self, now: Arrays) -> np.ndarray:
        """From the target to the finger's tip, (N, 3) m."""
        return now["xpos"][:, self.finger] - now["xpos"][:, self.target]

    def observe(self, now: Arrays) -> np.ndarray:
        angles, rest = now["qpos"][:, :2], now["qpos"][:, 2:]
        return np.concatenate((np.cos(angles), np.sin(angles), rest, now["qvel"][:, :2], self.gap(now)[:, :2]), axis=1)

    def outcome(self, before: np.ndarray, now: Arrays) -> Outcome:
        near = -np.sqrt(squares(self.gap(now))) * self.options["reward_dist_weight"]
        ctrl = -squares(now["action"]) * self.options["reward_control_weight"]
        return near + ctrl, np.zeros(len(near), dtype=np.bool_), {"reward_dist": near, "reward_ctrl": ctrl}


TASKS = {
    "gymnasium.envs.mujoco.half_cheetah_v5:HalfCheetahEnv": HalfCheetah,
    "gymnasium.envs.mujoco.hopper_v5:HopperEnv": Hopper,
    "gymnasium.envs.mujoco.walker2d_v5:Walker2dEnv": Walker2d,
    "gymnasium.envs.mujoco.ant_v5:AntEnv": Ant,
    "gymnasium.envs.mujoco.humanoid_v5:HumanoidEnv": Humanoid,
    "gymnasium.envs.mujoco.reacher_v5:ReacherEnv": Reacher,
}
"""The tasks by where Gymnasium has them."""


def squares(x: np.ndarray) -> np.ndarray:
    """The sum of squares of each row: (N, K) to (N,)."""
    total = np.square(x).sum(axis=1)
    return total.astype(np.float64) if BEFORE_2 else total


def between(x: np.ndarray, bounds: tuple[float, float]) -> np.ndarray:
    """Where numbers are inside bounds."""
    low, high = bounds
    return (low < x) & (x < high)


def rows(x: np.ndarray) -> np.ndarray:
    """(N, ...) as (N, K)."""
    return x.reshape(len(x), -1)
