"""``rltrain resume``: continues a run."""

from __future__ import annotations

from rltrain.cli.options import Parser, add_module_option, whole
from rltrain.cli.typed import parse_value


def main(arguments: list[str]) -> int:
    """Continues a run from its newest intact checkpoint."""
    parser = Parser("resume", "Continue a run from its newest whole checkpoint, exactly as if it had never stopped.")
    parser.add_argument("run", metavar="RUN", help="run folder, or a checkpoint in it; later ones are set aside")
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

    from rltrain.cli.report import report
    from rltrain.training.launch import resume

    result = resume(
        parsed.run,
        total_timesteps=parsed.total_timesteps,
        device=parsed.device,
        env=parsed.env,
        progress=not parsed.no_progress,
        trackers=None if parsed.trackers is None else parse_value(" ".join(parsed.trackers) or "[]"),
        nproc=parsed.nproc,
        command=["resume", *arguments],
    )
    return report(result, parsed.json)
