"""Rounds of questions and training: each round asks about episodes of the policy that the last one trained.

Everything that a round makes stays in the folder of preferences, so the same call goes on wherever a process was
killed, and gives what it would have given without that.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from rltrain.config import TrainConfig
from rltrain.errors import CheckpointError, ConfigError
from rltrain.preferences.asking import ask
from rltrain.preferences.fitting import fit_preferences
from rltrain.preferences.folder import ABOUT, RUNS, Preferences
from rltrain.rewards.ensemble import EnsembleConfig
from rltrain.rng import derive_seed
from rltrain.runs.folder import RunFolder
from rltrain.runs.places import find_runs
from rltrain.runs.policy import load
from rltrain.storage.files import exists
from rltrain.training.launch import resume, start
from rltrain.training.request import RunRequest
from rltrain.vec import check_count

Label = Callable[[Preferences, Sequence[str]], None]
"""Answers the questions with these names, or leaves them to somebody else."""


@dataclass(frozen=True)
class Plan:
    """Rounds of questions and training.

    Attributes:
        rounds: How many.
        pairs: Questions in all rounds together; the first ones have one more where they cannot be divided.
        episodes: Episodes that are recorded in each round.
        segment: Steps of a clip; None for the usual number.
        by_disagreement: Whether the model chooses the questions, from the second round on.
        ensemble: The reward model.
    """

    rounds: int = 4
    pairs: int = 700
    episodes: int = 64
    segment: int | None = None
    by_disagreement: bool = True
    ensemble: EnsembleConfig = field(default_factory=EnsembleConfig)

    def pairs_of(self, number: int) -> int:
        """The questions of a round, from 1 on."""
        return self.pairs // self.rounds + (number <= self.pairs % self.rounds)

    def steps_of(self, number: int, total: int) -> int:
        """The steps of training in a round: the last one, which knows all answers, has half of them."""
        if number == self.rounds:
            return total - sum(self.steps_of(each, total) for each in range(1, self.rounds))
        return total // (2 * (self.rounds - 1))


@dataclass(frozen=True)
class Progress:
    """How far the rounds have come.

    Attributes:
        runs: The run of every round that is over.
        waiting: Questions that nobody has answered, by name; then the rounds go on when they are answered.
        interrupted: Whether a signal ended it.
    """

    runs: list[Path]
    waiting: list[str]
    interrupted: bool = False


def train_in_rounds(
    path: str | Path,
    config: TrainConfig,
    plan: Plan,
    label: Label,
    *,
    env_class: type | None = None,
    progress: bool = True,
) -> Progress:
    """Asks, lets questions be answered, fits, and trains, round by round.

    The first round asks about random episodes. Every further run starts from the last policy and its values: the reward
    of the next model is on the same scale, and fresh values would spoil the policy before they are learned.

    Args:
        path: The folder of preferences; it is made.
        config: The configuration of the runs; ``total_timesteps`` are those of all rounds together.
        plan: The rounds.
        label: Answers questions.
        env_class: The environment, if it has no registered id.
        progress: Whether to show progress.

    Raises:
        ConfigError: Something in the arguments is wrong, or the folder was made with another plan.
        RLTrainError: A round failed.
        Stopped: A signal asked for it, while no run was training.
    """
    path = Path(path)
    check_count("rounds", plan.rounds)
    if plan.pairs < plan.rounds:
        raise ConfigError(
            f"{plan.pairs} pairs are fewer than {plan.rounds} rounds.", "Ask about more, in fewer rounds."
        )
    if config.total_timesteps < 2 * plan.rounds:
        raise ConfigError(f"There are too few steps for {plan.rounds} rounds.", "Give more --total-timesteps.")
    runs: list[Path] = []
    for number in range(1, plan.rounds + 1):
        prefs = _asked(path, config, plan, number, runs[-1] if runs else None, env_class)
        questions = [pair.name for pair in prefs.rounds()[number - 1].pairs]
        if waiting := unanswered(prefs, questions):
            label(prefs, waiting)
        if waiting := unanswered(prefs, questions):
            return Progress(runs, waiting)
        folder = path / RUNS / f"round_{number:04d}"
        run = _run_in(folder)
        if run is None or RunFolder(run).metadata().get("status") != "completed":
            if run is None:
                reward = fit_preferences(prefs, plan.ensemble, seed=config.seed)
                mine = {
                    "total_timesteps": plan.steps_of(number, config.total_timesteps),
                    "run_dir": str(folder),
                    "reward_model": str(reward.absolute()),
                    **({"init_from": str(runs[-1])} if runs else {}),
                }
                request = RunRequest(config.model_copy(update=mine), env_class, progress=progress)
                result = start(request)
            else:
                result = resume(run, env=env_class, progress=progress)
            run = result.run_dir
            if result.stopped_by == "interrupted":
                return Progress(runs, [], interrupted=True)
        runs.append(run)
    return Progress(runs, [])


def unanswered(prefs: Preferences, questions: Sequence[str]) -> list[str]:
    """Those of some questions that nobody has answered or skipped."""
    answered = {answer.pair for answer in prefs.answers.current()}
    return [name for name in questions if name not in answered]


def _asked(
    path: Path, config: TrainConfig, plan: Plan, number: int, run: Path | None, env_class: type | None
) -> Preferences:
    """The preferences with the questions of a round."""
    if exists(path / ABOUT):
        prefs = Preferences.open(path)
        if len(rounds := prefs.rounds()) >= number:
            if len(rounds[number - 1].pairs) > plan.pairs_of(number):
                raise ConfigError(f"'{path}' was begun with other rounds or pairs.", "Give those, or another folder.")
            return prefs
    env = env_class or config.env.id
    ask(
        path,
        env if run is None else load(run, env=env_class),
        pairs=plan.pairs_of(number),
        segment=plan.segment,
        episodes=plan.episodes,
        by_disagreement=plan.by_disagreement,
        seed=derive_seed(config.seed, "preferences"),
        **({} if run is not None else config.env.make_options()),
    )
    return Preferences.open(path)


def _run_in(folder: Path) -> Path | None:
    """The run of a round, if it has a checkpoint to go on from; what was killed before that is begun anew."""
    for run in reversed(find_runs(folder) if folder.is_dir() else []):
        try:
            RunFolder(run).checkpoint("latest")
        except CheckpointError:
            continue
        return run
    return None
