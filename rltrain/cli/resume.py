"""``rltrain resume``: continues a run."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

from rltrain.cli.options import Parser, add_module_option, amount, dashed, whole
from rltrain.cli.typed import parse_value
from rltrain.config import TrainConfig
from rltrain.errors import ConfigError, RLTrainError


def main(arguments: list[str]) -> int:
    """Continues a run from its newest intact checkpoint, or several as one batch."""
    parser = Parser("resume", "Continue a run from its newest whole checkpoint, exactly as if it had never stopped.")
    parser.add_argument(
        "run",
        metavar="RUN",
        nargs="+",
        help="run folder, or a checkpoint in it; later ones are set aside. Several, of one --num-seeds, go on together",
    )
    parser.add_argument("--total-timesteps", type=whole(1), metavar="INT", help="steps to stop at, to train for longer")
    parser.add_argument(
        "--device", metavar="DEVICE", help="cpu, cuda, cuda:N, mps, xpu or auto [as the run was made with]"
    )
    parser.add_argument(
        "--nproc", type=whole(1), metavar="INT", help="processes that train together [as the run was made with]"
    )
    what = "what it may cost over all sessions [as the run was made with]"
    parser.add_argument("--max-cost", type=amount, metavar="NUMBER", help=what)
    parser.add_argument("--trackers", nargs="*", metavar="NAME", help="where metrics go [as the run was made with]")
    parser.add_argument("--no-progress", action="store_true", help="show no progress")
    parser.add_argument("--json", action="store_true", help="print the result as one JSON object")
    add_module_option(parser)
    refuse_settings(arguments)
    parsed = parser.parse(arguments)

    from rltrain.cli.report import report, report_seeds
    from rltrain.training.launch import resume
    from rltrain.training.resume_seeds import resume_seeds

    options: dict[str, Any] = {
        "total_timesteps": parsed.total_timesteps,
        "device": parsed.device,
        "env": parsed.env,
        "progress": not parsed.no_progress,
        "trackers": None if parsed.trackers is None else parse_value(" ".join(parsed.trackers) or "[]"),
    }
    if len(parsed.run) > 1:
        if parsed.nproc is not None:
            raise ConfigError("One process trains several seeds.", "Leave --nproc out, or name one run.")
        if parsed.max_cost is not None:
            raise ConfigError("Several runs keep the --max-cost that they were made with.", "Name one run.")
        return report_seeds(resume_seeds(parsed.run, **options), parsed.json)
    own = {"nproc": parsed.nproc, "max_cost": parsed.max_cost}
    result = resume(parsed.run[0], **options, **own, command=["resume", *arguments])
    return report(result, parsed.json)


def refuse_settings(arguments: Sequence[str]) -> None:
    """Refuses settings of training, which a run does not change when it goes on.

    Raises:
        ConfigError: There is one; the fix is the command that starts a run with it from the same policy.
    """
    own = {"env", "total_timesteps", "device", "nproc", "trackers", "max_cost"}
    words = [dashed(argument).partition("=")[0] for argument in arguments]
    others = [f"--{name.replace('_', '-')}" for name in TrainConfig.model_fields if name not in own]
    given = next((word for word in words if word.startswith(("--agent.", "--env.")) or word in others), None)
    if given is None:
        return
    run = next((word for word in arguments if not word.startswith("-")), "RUN")
    algo, env = "ALGO", "ENV"
    with suppress(RLTrainError):
        from rltrain.runs.environment import origin_in
        from rltrain.runs.folder import RunFolder

        folder, _ = RunFolder.open(run)
        config = folder.config()
        algo, env = config.algo, origin_in(folder) or config.env.id
    command = shlex.join(["rltrain", "train", algo, env, "--init-from", run, given])
    raise ConfigError(
        f"'{given}' is not for resume: a run goes on with the settings that it was made with.",
        f"Start a new run from its policy: {command} ...",
    )
