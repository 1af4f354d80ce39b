"""What a server keeps of its decisions where it is told to, and what it is told about them."""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from typing import Any

import numpy as np

from rltrain.errors import InputError
from rltrain.recording.decision_log import DecisionLog
from rltrain.serving.observations import Observations

LARGEST = float(np.finfo(np.float32).max)
KNOWN = ("decision", "reward", "terminated", "truncated", "final_obs")


class Decisions:
    """The log of a server.

    Args:
        log: Where decisions are written.
    """

    def __init__(self, log: DecisionLog) -> None:
        self.log = log

    def next_episode(self, before: str | None) -> str:
        """Ends the episode of a session, if there is one, and names the next; the session's own name is secret."""
        if before is not None:
            self.log.end(before)
        return secrets.token_hex(8)

    def feedback(self, given: Mapping[str, Any], observations: Observations) -> None:
        """Logs what came of a decision.

        Args:
            given: ``decision``, its id; ``reward``; ``terminated`` or ``truncated``, and then perhaps ``final_obs``.
            observations: Checks the last observation.

        Raises:
            InputError: It does not fit.
        """
        if unknown := sorted(set(given) - set(KNOWN)):
            raise InputError(f"There is no '{unknown[0]}' in feedback", "")
        decision, reward = given.get("decision"), given.get("reward")
        terminated, truncated = given.get("terminated", False), given.get("truncated", False)
        if not (isinstance(decision, str) and self.log.knows(decision)):
            raise InputError("'decision' is no id that POST /predict has given", "")
        if reward is not None and not (type(reward) in (int, float) and abs(reward) <= LARGEST):
            raise InputError("'reward' is a finite number", "")
        if not (isinstance(terminated, bool) and isinstance(truncated, bool)):
            raise InputError("'terminated' and 'truncated' are true or false", "")
        over = terminated or truncated
        if reward is None and not over:
            raise InputError("Give 'reward', or say that the episode is over by 'terminated' or 'truncated'", "")
        final = None
        if (last := given.get("final_obs")) is not None:
            if not over:
                raise InputError("'final_obs' is of an episode that is over: give 'terminated' or 'truncated'", "")
            final = observations.of_rows([last])
        number = None if reward is None else float(reward)
        self.log.feedback(decision, number, terminated=terminated, truncated=truncated, final=final)
