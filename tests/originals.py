"""Which release of Gymnasium brought what ours is held against: tests skip where it is not there yet."""

from __future__ import annotations

import gymnasium
import pytest
from packaging.version import Version


def since(release: str, what: str) -> pytest.MarkDecorator:
    """Skips a test under an older Gymnasium."""
    is_older = Version(gymnasium.__version__) < Version(release)
    return pytest.mark.skipif(is_older, reason=f"{what} came with Gymnasium {release}")


cliff = since("1.2.0", "CliffWalking-v1 and CliffWalkingSlippery-v1")
lake_options = since("1.2.1", "the options success_rate and reward_schedule of FrozenLake")
taxi = since("1.3.0", "Taxi-v4")
same_step_statistics = since("1.4.0", "RecordEpisodeStatistics that counts every step of an episode in same-step mode")
