"""Records a dataset with policies that are named: runs, untrained policies, or people."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from contextlib import closing, suppress
from functools import partial
from pathlib import Path
from typing import Any

import torch

from rltrain.agent import Actor
from rltrain.data.card import DatasetCard, size_category
from rltrain.data.dataset import Dataset
from rltrain.data.writer import DatasetWriter
from rltrain.errors import ConfigError, DatasetError
from rltrain.evaluation.baselines import BASELINES, baseline_policy
from rltrain.evaluation.episodes import Choose, most_envs
from rltrain.evaluation.limits import MAX_STEPS, Limits, make_limited
from rltrain.make import make_vec
from rltrain.naming.arguments import typed
from rltrain.recording.rounds import Contributor, record_rounds, rows_that_fit
from rltrain.runs.policy import Policy, load
from rltrain.spaces import bytes_of, first_unlike
from rltrain.storage.files import exists
from rltrain.storage.values import to_plain
from rltrain.vec import VecEnv, check_count

KEYBOARD = "keyboard"
Keyboard = Callable[[VecEnv], Choose]
"""Makes the policy of a person who presses keys."""


def shares_of(given: Sequence[str], episodes: int) -> dict[str, int]:
    """The episodes of each policy, given as ``NAME`` or ``NAME=SHARE``; they add up to ``episodes``.

    Raises:
        ConfigError: A share is no positive number, or a policy is named twice.
    """
    shares: dict[str, float] = {}
    for text in given:
        name, equals, number = text.rpartition("=")
        name, number = (name, number) if equals else (text, "1")
        try:
            share = float(number)
        except ValueError:
            share = 0.0
        if not 0.0 < share < float("inf"):
            raise ConfigError(f"'{text}' gives no share.", "Write --policy NAME=SHARE with a number above 0.")
        if name in shares:
            raise ConfigError(f"The policy '{name}' is named twice.", "Name it once.")
        shares[name] = share
    total = sum(shares.values())
    exact = {name: episodes * share / total for name, share in shares.items()}
    counts = {name: int(number) for name, number in exact.items()}
    for name in sorted(exact, key=lambda each: counts[each] - exact[each])[: episodes - sum(counts.values())]:
        counts[name] += 1
    if idle := next((name for name, count in counts.items() if not count), None):
        raise ConfigError(f"The policy '{idle}' has no episode among {episodes}.", "Record more, or leave it out.")
    return counts


@typed("episodes", "seed")
def record(
    what: str | type | Policy,
    out: str | Path,
    *,
    policies: Sequence[str] = (),
    episodes: int = 100,
    stochastic: bool = False,
    seed: int = 0,
    num_envs: int | None = None,
    checkpoint: str | int = "latest",
    device: torch.device | str = "cpu",
    name: str = "",
    limits: Limits | None = None,
    keyboard: Keyboard | None = None,
    **env_options: Any,
) -> Dataset:
    """Records whole episodes, exactly as many as are asked for, and returns the dataset.

    The same call continues a recording that was interrupted.

    Args:
        what: The environment, or the trained policy in whose environment the episodes are played.
        out: The folder to make.
        policies: Who acts: ``random``, ``baseline``, ``keyboard`` or run folders, each with ``=SHARE`` if they are
            several; by default the policy given as ``what``, or ``random``.
        episodes: How many episodes, over all policies.
        stochastic: Whether trained policies sample their actions instead of taking the likeliest.
        seed: Seed of the episodes and of sampled actions.
        num_envs: Environments that play side by side; by default as many as an evaluation uses.
        checkpoint: That of runs named in ``policies``: ``latest``, ``best`` or a step.
        device: Where environments and policies are; that of the policy given as ``what``.
        name: The dataset's name; that of the folder by default.
        limits: The longest episode where the environment has no limit; and the progress.
        keyboard: Makes the policy ``keyboard``.
        **env_options: Constructor arguments and options of the environment.

    Raises:
        ConfigError: There is no such policy or environment, or they do not fit together.
        DatasetError: ``out`` is there already, or cannot be written.
        Stopped: A signal asked for it; whole rounds are kept for the next call.
    """
    check_count("episodes", episodes)
    check_count("seed", seed, 0)
    out, limits = Path(out), limits or Limits(seconds=None)
    if exists(out):
        raise DatasetError(f"There is something at '{out}' already.", "Choose another place for it.")
    trained = what if isinstance(what, Policy) else None
    env: Any = trained.env if trained is not None else what
    device = trained.device if trained is not None else device
    given = list(policies) or ([""] if trained is not None else ["random"])
    counts = {"": episodes} if given == [""] else shares_of(given, episodes)
    manual = KEYBOARD in counts
    if manual and keyboard is None:
        raise ConfigError("There is no keyboard here.", "Record with 'rltrain record ENV --policy keyboard'.")
    if trained is not None:
        options = {**trained.config.env.make_options(), **env_options}
        make: Callable[..., VecEnv] = partial(trained.make_vec, **env_options)
    else:
        options = dict(env_options)
        make = partial(make_vec, env, device=device, **env_options)
    with closing(
        _environments(make, min(1 if manual else num_envs or most_envs(env), episodes), limits, manual)
    ) as vec:
        steps = _longest(vec, limits)
        who = [
            _contributor(each, count, trained, vec, env, checkpoint, not stochastic, keyboard)
            for each, count in counts.items()
        ]
        env_id = trained.config.env.id if trained is not None else env if isinstance(env, str) else env.__name__
        environment = {"id": env_id, "options": {key: to_plain(value) for key, value in options.items()}}
        card = _card(name or out.name, env_id, [each.facts["name"] for each in who], manual)
        recording = {
            "episodes": episodes,
            "seed": seed,
            "num_envs": vec.num_envs,
            "each": [each.episodes for each in who],
            "max_steps": steps,
        }
        with DatasetWriter(
            out,
            vec.single_observation_space,
            vec.single_action_space,
            name=name,
            environment=environment,
            policies=[each.facts for each in who],
            how="recorded",
            card=card,
            resume=recording,
        ) as writer:
            with suppress(Done):
                record_rounds(vec, who, writer, seed=seed, limits=limits)
            card.size_categories = [size_category(writer.steps)]
    return Dataset.open(out)


class Done(Exception):
    """The person at the keyboard has had enough; the episodes that are over are kept."""


def _environments(make: Callable[..., VecEnv], at_most: int, limits: Limits, manual: bool) -> VecEnv:
    """The environments: as many as a round of whole episodes may have; drawn for a person, if they can be."""
    if manual:
        with suppress(ConfigError):
            return make_limited(partial(make, 1, render=True), limits)
    vec = make_limited(partial(make, at_most), limits)
    fitting = rows_that_fit(bytes_of(vec.single_observation_space), _longest(vec, limits), at_most)
    if fitting == at_most:
        return vec
    vec.close()
    return make_limited(partial(make, fitting), limits)


def _longest(vec: VecEnv, limits: Limits) -> int:
    """The most steps of an episode."""
    return limits.steps_in(vec) or getattr(vec, "max_episode_steps", None) or MAX_STEPS


def _contributor(
    name: str,
    episodes: int,
    trained: Policy | None,
    vec: VecEnv,
    env: Any,
    checkpoint: str | int,
    deterministic: bool,
    keyboard: Keyboard | None,
) -> Contributor:
    """The policy of a name."""
    if name == KEYBOARD:
        assert keyboard is not None
        person = keyboard(vec)
        return Contributor(lambda *_: person, episodes, {"name": KEYBOARD})
    if name in BASELINES:
        baseline_policy(vec, name)  # raises, if there is none
        return Contributor(lambda vec, seed: baseline_policy(vec, name, seed=seed), episodes, {"name": name})
    if name:
        if not exists(Path(name)):
            known = ", ".join((*BASELINES, KEYBOARD))
            raise ConfigError(f"There is no policy '{name}'.", f"Name a run folder, or one of: {known}.")
        given = load(name, checkpoint=checkpoint, device=str(vec.device), env=env if isinstance(env, type) else None)
        its = given.observation_space, given.action_space
        here = vec.single_observation_space, vec.single_action_space
        if (unlike := first_unlike(its, here)) is not None:
            what, mine, other = unlike
            raise ConfigError(
                f"The policy '{name}' has {what} of {mine}, and here they are of {other}.",
                "Give the --env options that it was trained with.",
            )
    else:
        assert trained is not None
        given = trained
    actor = given.agent.actor
    facts = {
        "name": name or f"{given.config.algo} on {given.config.env.id}",
        "algo": given.config.algo,
        "step": given.step,
        "run_seed": given.config.seed,
        "deterministic": deterministic,
        "weights": _digest(actor),
    }
    return Contributor(lambda *_: actor, episodes, facts, deterministic)


def _digest(actor: Actor) -> str:
    """A checksum of a policy's tensors."""
    digest = hashlib.sha256()
    for name, tensor in sorted(actor.state_dict().items()):
        digest.update(f"{name} {tuple(tensor.shape)} {tensor.dtype}".encode())
        digest.update(tensor.detach().cpu().reshape(-1).contiguous().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def _card(name: str, env_id: str, policies: Sequence[str], manual: bool) -> DatasetCard:
    """A card with what a recording knows."""
    by = ", ".join(policies)
    ours = env_id.startswith("rltrain/") and not manual
    nobody = "There is no data of people in it: a simulation and a program made it." if ours else ""
    return DatasetCard(
        pretty_name=name,
        annotations_creators=["expert-generated" if manual else "machine-generated"],
        source_data=f"Recorded by rltrain in {env_id}. Who acted: {by}.",
        consent=nobody,
        personal_and_sensitive_information=nobody,
    )
