"""The built-in verbs, registered by name. Importing this imports none of them."""

from __future__ import annotations

from rltrain.plugins import register_verb

VERBS = {
    "train": ("train:main", "Train an agent in an environment."),
    "estimate": ("estimate:main", "Say what a run will take: seconds, memory, energy, money."),
    "sweep": ("sweep:main", "Search for better hyperparameters."),
    "resume": ("resume:main", "Continue a run where it stopped."),
    "eval": ("evaluate:main", "Play fresh episodes with a trained policy."),
    "watch": ("watch:main", "Film a trained policy, or a random one."),
    "record": ("record:main", "Record episodes as a dataset."),
    "data": ("data:main", "Show, check, split, import or export a dataset; delete rows."),
    "preferences": ("preferences:main", "Learn a reward from what people prefer."),
    "runs": ("run_list:main", "List runs: status, score, steps, time."),
    "show": ("show:main", "Show what is known of a run."),
    "compare": ("compare:main", "Compare two runs, or two folders of runs."),
    "rm": ("remove:main", "Remove runs."),
    "plot": ("plot:main", "Draw learning curves of runs, or compare their scores."),
    "report": ("page:main", "Write a web page about runs."),
    "tensorboard": ("tensorboard:main", "Start TensorBoard for runs, on this machine alone."),
    "envs": ("listing:envs", "List the environments, or describe one."),
    "check": ("check:main", "Check an environment: does it keep its promises?"),
    "new-env": ("new_env:main", "Write a package with an environment, ready to be trained in."),
    "agents": ("listing:agents", "List the agents, or describe one."),
    "trackers": ("listing:trackers", "List the trackers: where metrics can go."),
    "doctor": ("doctor:main", "Show what this machine has, and what is missing."),
    "export": ("export:main", "Write a trained policy for another library."),
    "serve": ("serve:main", "Answer with the actions of a policy over HTTP."),
    "completion": ("completion:main", "Print the script that lets a shell complete all this."),
    "cloud": ("cloud:main", "Write the file by which a platform trains a run."),
    "models": ("models:main", "Keep versions of policies; promote one through a gate."),
    "drift": ("drift:main", "Has what a policy meets, does and earns changed?"),
    "retrain": ("retrain:main", "Train a policy again when what it meets has changed."),
    "hub": ("hub:main", "Share policies on the Hugging Face Hub."),
    "import-sb3": ("import_sb3:main", "Make a run of a policy that Stable-Baselines3 saved."),
}


def register() -> None:
    """Registers them, in the order of ``rltrain --help``; called through the entry-point group ``rltrain.verbs``."""
    for name, (function, line) in VERBS.items():
        register_verb(name, f"rltrain.cli.{function}", help=line)
