"""The built-in verbs, registered by name. Importing this imports none of them."""

from __future__ import annotations

from rltrain.plugins import register_verb

VERBS = {
    "train": ("train:main", "Train an agent in an environment."),
    "resume": ("resume:main", "Continue a run where it stopped."),
    "eval": ("evaluate:main", "Play fresh episodes with a trained policy."),
    "watch": ("watch:main", "Film a trained policy, or a random one."),
    "plot": ("plot:main", "Draw learning curves of runs."),
    "envs": ("listing:envs", "List the environments, or describe one."),
    "check": ("check:main", "Check an environment: does it keep its promises?"),
    "new-env": ("new_env:main", "Write a package with an environment, ready to be trained in."),
    "agents": ("listing:agents", "List the agents, or describe one."),
    "trackers": ("listing:trackers", "List the trackers: where metrics can go."),
    "export": ("export:main", "Write a trained policy for another library."),
    "serve": ("serve:main", "Answer with the actions of a policy over HTTP."),
    "import-sb3": ("import_sb3:main", "Make a run of a policy that Stable-Baselines3 saved."),
}


def register() -> None:
    """Registers them, in the order of ``rltrain --help``; called through the entry-point group ``rltrain.verbs``."""
    for name, (function, line) in VERBS.items():
        register_verb(name, f"rltrain.cli.{function}", help=line)
