"""``rltrain resume``: continues a run."""

from __future__ import annotations

from rltrain.cli.options import Parser, add_module_option, import_module_of, parse_value, whole
from rltrain.errors import ConfigError


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
    parser.add_argument("--trackers", nargs="*", metavar="NAME", help="where metrics go [as the run was made with]")
    parser.add_argument("--no-progress", action="store_true", help="show no progress")
    parser.add_argument("--json", action="store_true", help="print the result as one JSON object")
    add_module_option(parser)
    parsed = parser.parse(arguments)

    from rltrain.cli.report import report, report_seeds
    from rltrain.training.launch import resume
    from rltrain.training.resume_seeds import resume_seeds

    options = {
        "total_timesteps": parsed.total_timesteps,
        "device": parsed.device,
        "progress": not parsed.no_progress,
        "trackers": None if parsed.trackers is None else parse_value(" ".join(parsed.trackers) or "[]"),
    }
    for run in parsed.run:
        import_module_of(parsed.env, run)
    if len(parsed.run) > 1:
        if parsed.nproc is not None:
            raise ConfigError("One process trains several seeds.", "Leave --nproc out, or name one run.")
        return report_seeds(resume_seeds(parsed.run, **options), parsed.json)
    result = resume(parsed.run[0], **options, nproc=parsed.nproc, command=["resume", *arguments])
    return report(result, parsed.json)
