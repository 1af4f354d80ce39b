"""Actions that are a Tuple or Dict: the agent chooses all of them at once, and the environment gets its own form."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest
from gymnasium import spaces
from test_promises import QUICK, Sound

import rltrain
from rltrain.adapters.spaces import Actions
from rltrain.errors import ConfigError

CHOICES = spaces.Tuple(
    (spaces.Discrete(9), spaces.Dict({"row": spaces.Discrete(3, start=1), "flags": spaces.MultiBinary(2)}))
)
NUMBERS = spaces.Dict({"arm": spaces.Box(-1.0, 1.0, (2, 2), np.float64), "grip": spaces.Box(0, 255, (1,), np.int32)})
BOTH = spaces.Tuple((spaces.Discrete(2), spaces.Box(-1.0, 1.0, (1,))))


class Chooses(Sound):
    """Refuses an action that is not in its space."""

    action_space = CHOICES

    def step(self, action: Any) -> Any:
        assert action in self.action_space, action
        return super().step(action)


class Moves(Chooses):
    action_space = NUMBERS


class Mixes(Chooses):
    action_space = BOTH


@pytest.mark.parametrize("cls", [Chooses, Moves])
def test_an_agent_acts_in_it(cls: type[Chooses], tmp_path: Path) -> None:
    result = rltrain.train("ppo", cls, run_dir=tmp_path, **QUICK)
    policy = rltrain.load(result.run_dir, env=cls)
    obs = np.zeros(3, np.float32)
    action, _ = policy.predict(obs, deterministic=False)
    assert action in cls.action_space
    if cls is Chooses:
        assert type(action[0]) is int
    batch, _ = policy.predict(np.zeros((5, 3), np.float32))
    assert batch in gymnasium.vector.utils.batch_space(cls.action_space, 5)


def test_sac_acts_in_several_boxes_and_their_bounds_are_reached(tmp_path: Path) -> None:
    agent = {"learning_starts": 32, "buffer_size": 256, "batch_size": 32}
    result = rltrain.train("sac", Moves, run_dir=tmp_path, **{**QUICK, "agent": agent})
    policy = rltrain.load(result.run_dir, env=Moves)
    seen = [policy.predict(np.zeros(3, np.float32), deterministic=False)[0] for _ in range(50)]
    assert all(action in NUMBERS for action in seen)
    assert np.ptp([action["grip"] for action in seen]) > 20, "0 to 255 is rescaled"


def test_the_numbers_go_where_they_belong() -> None:
    actions = Actions.for_space(CHOICES)
    assert actions.space == spaces.MultiDiscrete([9, 2, 2, 3], start=[0, 0, 0, 1])  # a Dict sorts its keys
    (first, second) = actions.rows(np.array([[8, 0, 1, 3], [2, 1, 1, 1]]))
    assert first[0] == 8
    assert first[1]["row"] == 3
    assert first[1]["flags"].tolist() == [0, 1]
    assert second in CHOICES
    arm = Actions.for_space(NUMBERS).rows(np.array([[0.1, 0.2, 0.3, 7.0, 99.6]], np.float32))[0]
    assert arm["arm"].tolist() == [[pytest.approx(0.1), pytest.approx(0.2)], [pytest.approx(0.3), 1.0]]
    assert arm["grip"].tolist() == [100]


def test_choices_and_numbers_together_are_refused() -> None:
    with pytest.raises(ConfigError, match="There are no agents that act in Tuple") as caught:
        Actions.for_space(BOTH)
    assert "either choices or numbers" in caught.value.fix
