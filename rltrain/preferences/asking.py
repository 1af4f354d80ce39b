"""A round of questions: records episodes, cuts clips out of them, and chooses the pairs to ask about."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rltrain.data.dataset import Dataset
from rltrain.errors import ConfigError
from rltrain.evaluation.limits import Limits
from rltrain.preferences.folder import ABOUT, Preferences, Round
from rltrain.preferences.pairs import choose_pairs
from rltrain.recording.recorder import record
from rltrain.registry import spec_of
from rltrain.rewards.files import load_reward
from rltrain.rng import derive_seed
from rltrain.runs.policy import Policy
from rltrain.spaces import first_unlike
from rltrain.storage.files import exists, remove
from rltrain.vec import check_count

SEGMENT = 25
"""Steps of a clip, unless it is said."""


def ask(
    path: str | Path,
    what: str | type | Policy,
    *,
    pairs: int = 100,
    segment: int | None = None,
    policies: Sequence[str] = (),
    episodes: int = 64,
    stochastic: bool = True,
    by_disagreement: bool = True,
    seed: int = 0,
    num_envs: int | None = None,
    checkpoint: str | int = "latest",
    device: str = "cpu",
    limits: Limits | None = None,
    **env_options: Any,
) -> Round:
    """Adds a round of questions to a folder of preferences, which is made if there is none.

    The same call continues a recording that was interrupted.

    Args:
        path: The folder.
        what: The environment, or the trained policy in whose environment episodes are recorded.
        pairs: How many pairs to ask about.
        segment: Steps of a clip; that of the folder, or :data:`SEGMENT` in a new one.
        policies: Who plays, as for :func:`~rltrain.recording.recorder.record`.
        episodes: Episodes to record.
        stochastic: Whether trained policies sample their actions, which shows more of what they do.
        by_disagreement: Whether to choose the pairs that the newest reward model is least sure of; without a model
            they are drawn by chance.
        seed: Seed of the episodes and of the pairs.
        num_envs: Environments that play side by side.
        checkpoint: That of runs named in ``policies``.
        device: Where environments and policies are.
        limits: The longest episode, and the progress.
        **env_options: Constructor arguments and options of the environment.

    Raises:
        ConfigError: There is no such policy or environment, it is another one than in the rounds before, or no episode
            is long enough.
        DatasetError: The folder is damaged, or another process is asking.
        Stopped: A signal asked for it; what was recorded is kept for the next call.
    """
    check_count("pairs", pairs)
    path = Path(path)
    env: Any = what.env if isinstance(what, Policy) else what
    if not isinstance(what, Policy):
        env_options = {"rescale_action": None, **env_options}  # as in training
    if spec_of(env).group == "gymnasium":
        env_options = {"vectorization": "sync", **env_options}  # each with a seed of its own, to be filmed later
    made = not exists(path)
    if exists(path / ABOUT):
        prefs = Preferences.open(path)
        if segment is not None and segment != prefs.segment:
            raise ConfigError(f"The clips in '{path}' have {prefs.segment} steps, not {segment}.", "Leave it out.")
    else:
        segment = SEGMENT if segment is None else segment
        check_count("segment", segment)
        env_id = what.config.env.id if isinstance(what, Policy) else env if isinstance(env, str) else env.__name__
        prefs = Preferences.create(path, {"id": env_id}, segment)
    try:
        with prefs.locked():
            before = prefs.rounds()
            number = before[-1].number + 1 if before else 1
            place = prefs.place(number)
            remove(place)  # episodes without questions, of a process that was killed before it had chosen any
            dataset = record(
                what,
                place,
                policies=policies,
                episodes=episodes,
                stochastic=stochastic,
                seed=derive_seed(seed, "round", number),
                num_envs=num_envs,
                checkpoint=checkpoint,
                device=device,
                limits=limits,
                name=f"{path.name}-{number:04d}",
                **env_options,
            )
            where = str(what.device if isinstance(what, Policy) else device)
            return _choose(prefs, number, dataset, before, pairs, by_disagreement, {"seed": seed, "device": where})
    except ConfigError:
        if made:
            remove(path)
        raise


def _choose(
    prefs: Preferences,
    number: int,
    dataset: Dataset,
    before: list[Round],
    count: int,
    active: bool,
    facts: dict[str, Any],
) -> Round:
    if before:
        these = dataset.observation_space, dataset.action_space
        others = before[0].dataset.observation_space, before[0].dataset.action_space
        if (unlike := first_unlike(these, others)) is not None:
            what, mine, other = unlike
            raise ConfigError(
                f"This round has {what} of {mine}, and those before have {other}.",
                "Give the environment and the --env options of the first round.",
            )
    newest = prefs.newest_model() if active else None
    model, of_model = load_reward(newest) if newest is not None else (None, {})
    stream = derive_seed(facts["seed"], "pairs", number)
    chosen = choose_pairs(dataset, prefs.segment, count, model=model, seed=stream)
    return prefs.add_round(
        number,
        chosen,
        {
            "dataset": dataset.checksum,
            "chosen": "by disagreement" if model is not None else "by chance",
            "model": of_model.get("checksum"),
            **facts,
        },
    )
