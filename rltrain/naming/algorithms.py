"""What people call algorithms, and the agent that is meant. Importing this needs neither torch nor pydantic."""

from __future__ import annotations

import re
from collections.abc import Iterable

OTHER_AGENTS = {
    "maskableppo": "Train ppo: it heeds the action masks of an environment by itself.",
    "recurrentppo": "Train ppo with --agent.policy-kwargs.memory lstm, or gru.",
    "ppolstm": "Train ppo with --agent.policy-kwargs.memory lstm, or gru.",
    "drqn": "No agent here has a replay and memory; train ppo with --agent.policy-kwargs.memory lstm.",
    "r2d2": "No agent here has a replay and memory; train ppo with --agent.policy-kwargs.memory lstm.",
    "ars": "Its random search is not here; train ppo, or sac for continuous actions.",
    "her": "Train dqn or sac with --agent.n-sampled-goal 4: hindsight is an option of both.",
    "ddqn": "Train dqn with --agent.double-q true.",
    "doubledqn": "Train dqn with --agent.double-q true.",
    "duelingdqn": "Train dqn with --agent.dueling true.",
    "noisydqn": "Train dqn with --agent.noisy true.",
    "per": "Train dqn with --agent.prioritized-replay true.",
    "rainbow": "Train dqn: what makes it Rainbow are options, as 'rltrain train dqn --help' lists them.",
    "c51": "Train dqn with --agent.distributional true, which learns quantiles, or sb3/qrdqn.",
    "iqn": "Train dqn with --agent.distributional true, which learns quantiles, or sb3/qrdqn.",
    "a3c": "Train sb3/a2c, which is its synchronous form, or ppo.",
    "reinforce": "Train sb3/a2c or ppo, which came after it.",
    "vpg": "Train sb3/a2c or ppo, which came after it.",
    "droq": "Train sac with --agent.gradient-steps 20 and --agent.policy-kwargs.layer-norm true, or sb3/crossq.",
    "gail": "It is not here; bc learns from a dataset of demonstrations.",
}
"""What to train in place of an algorithm that goes by another name here, or is not here, by its name in letters."""


def agent_meant(name: str, known: Iterable[str]) -> str:
    """What to train in place of an agent that is not known by this name; empty where nothing of the kind is known.

    Args:
        name: The name that was given.
        known: The names of all agents.
    """
    letters, known = _letters(name), list(known)
    same = [each for each in known if letters in (_letters(each), _letters(each.rpartition("/")[2]))]
    if same:  # one of ours before one of another library
        best = min(same, key=lambda each: ("/" in each, each))
        return f"Did you mean '{best}'?"
    if inside := [each for each in known if each.lower().startswith(f"{name.lower().rstrip('/')}/")]:
        return f"Name one of its agents: {', '.join(inside)}."
    return OTHER_AGENTS.get(_letters(name.rpartition("/")[2]), "")


def _letters(name: str) -> str:
    """A name without case and punctuation."""
    return re.sub(r"[\W_]", "", name).lower()
