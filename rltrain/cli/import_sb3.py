"""``rltrain import-sb3``: makes a run folder from a file that Stable-Baselines3 saved."""

from __future__ import annotations

from rltrain.cli.options import EnvParser
from rltrain.cli.output import say
from rltrain.errors import ConfigError


def main(arguments: list[str]) -> int:
    """Makes a run folder and prints where it is."""
    parser = EnvParser("import-sb3", "Make a run of a policy that Stable-Baselines3 saved; no pickle in it is opened.")
    parser.add_argument("file", metavar="FILE.zip", help="what model.save(...) wrote")
    parser.add_argument("--env", metavar="ENV", help="environment that it was trained in: the file does not say")
    parser.add_argument("--algo", metavar="ALGO", help="agent to go on as, such as sb3/ppo [ours, if there is one]")
    parser.add_argument("--run-dir", default="runs", metavar="FOLDER", help="where the run folder is made [runs]")
    parsed, env_kwargs = parser.parse_both(arguments)
    if parsed.env is None:
        raise ConfigError("Name the environment it was trained in.", "For example: --env rltrain/CartPole-v1")

    from rltrain.cli.report import resume_command
    from rltrain.runs.environment import env_option
    from rltrain.sb3.importer import import_sb3

    run = import_sb3(parsed.file, parsed.env, algo=parsed.algo, run_dir=parsed.run_dir, env_kwargs=env_kwargs)
    say(
        f"{run}: play it with 'rltrain eval {run}{env_option(run)}', "
        f"train on with '{resume_command(run)} --total-timesteps N'"
    )
    return 0
