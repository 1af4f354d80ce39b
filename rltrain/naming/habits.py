"""What people who come from Stable-Baselines3, RL Zoo, CleanRL and Hydra write, and what to write here."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Iterator
from typing import Any

from pydantic import BaseModel

OTHER_NAMES = {
    "lr": "learning_rate",
    "n_env": "num_envs",
    "n_steps_per_env": "n_steps",
    "num_steps": "n_steps",
    "update_epochs": "n_epochs",
    "clip_coef": "clip_range",
    "norm_adv": "normalize_advantage",
    "target_network_frequency": "target_update_interval",
    "train_frequency": "train_freq",
    "start_e": "exploration_initial_eps",
    "end_e": "exploration_final_eps",
    "total_steps": "total_timesteps",
    "timesteps": "total_timesteps",
    "steps": "total_timesteps",
    "entropy_coef": "ent_coef",
    "value_coef": "vf_coef",
    "hidden_sizes": "net_arch",
    "activation": "activation_fn",
    "outdir": "run_dir",
    "log_dir": "run_dir",
    "save_path": "run_dir",
    "checkpoint_freq": "save_freq",
    "capture_video": "video_freq",
    "track": "trackers",
}
"""Names of other libraries for options of ours."""
NOT_OURS = {
    "verbose": "Leave it out: progress is shown unless --no-progress (progress=False), and --trackers says where "
    "metrics go.",
    "tensorboard_log": "Leave it out: TensorBoard's files are in the run folder, and --run-dir (run_dir) says where.",
    "tb_log_name": "Leave it out: the run folder is named by the environment and the agent.",
    "render": "Leave it out: --video-freq (video_freq) films while it trains, and rltrain watch films a run.",
    "render_mode": "Leave it out: --video-freq (video_freq) films while it trains, and rltrain watch films a run.",
    "progress_bar": "Leave it out: progress is shown unless --no-progress (progress=False).",
    "callback": "From Python, give callbacks=[...] of subclasses of rltrain.Callback.",
    "eval_env": "Leave it out: --eval-freq (eval_freq) evaluates in environments of its own.",
    "reset_num_timesteps": "Leave it out: rltrain resume goes on with a run, and --init-from starts a new one.",
    "monitor_wrapper": "Leave it out: returns and lengths of episodes are always counted.",
    "monitor_dir": "Leave it out: returns and lengths of episodes are in progress.csv of the run folder.",
    "vec_env_cls": "Leave it out: --env.vectorization sync or async says how environments are stepped.",
    "vec_env_wrapper": "Leave it out: --env.frame-stack, --agent.normalize-obs and their like do what they do.",
    "env_wrapper": "Name a function that makes the wrapped environment: module:function.",
    "wrapper_class": "Name a function that makes the wrapped environment: module:function.",
    "optimize_memory_usage": "Leave it out: the replay never holds an observation twice.",
    "replay_buffer_class": "Leave it out: --agent.n-sampled-goal 4 stands for HerReplayBuffer.",
    "replay_buffer_kwargs": "Leave it out: --agent.n-sampled-goal is what can be set.",
    "use_sde": "Leave it out, or train sb3/ppo or sb3/sac, which have gSDE.",
    "sde_sample_freq": "Leave it out, or train sb3/ppo or sb3/sac, which have gSDE.",
    "_init_setup_model": "Leave it out.",
    "optimizer_class": "Leave it out: agents learn by Adam.",
    "optimizer_kwargs": "Leave it out: --agent.learning-rate is what can be set of Adam.",
    "share_features_extractor": "Leave it out, or train sb3/ppo, which has it.",
    "gym_packages": "Name the module before the environment, which imports it: highway_env:highway-v0.",
    "hyperparams": "Write each as an option: --agent.n-steps 32 --agent.gamma 0.9.",
    "cuda": "Say --device cuda or --device cpu; auto takes the GPU where there is one.",
    "torch_deterministic": "Leave it out: the same seed gives the same run.",
    "exp_name": "Leave it out: the run folder is named by the environment and the agent, and --run-dir says where.",
    "anneal_lr": "Write the learning rate as a schedule: --agent.learning-rate lin_0.001 falls linearly to 0.",
    "num_minibatches": "Give the size of a minibatch: --agent.batch-size 64.",
    "trained_agent": "Start from a run or a zip by --init-from; rltrain resume goes on with a run.",
    "load": "Start from a run or a zip by --init-from; rltrain resume goes on with a run.",
    "resume": "Go on with a run by rltrain resume RUN; --init-from starts a new one from its policy.",
    "continue": "Go on with a run by rltrain resume RUN; --init-from starts a new one from its policy.",
}
"""What to do about options of other libraries that do not exist here, by their names."""
SHORT = {"n": "--total-timesteps", "f": "--run-dir", "i": "--init-from", "params": "--agent.NAME", "P": "--no-progress"}
"""RL Zoo's options with one dash, and what stands for them here."""


VERBS = {
    "enjoy": "watch",
    "play": "watch",
    "render": "watch",
    "visualize": "watch",
    "film": "watch",
    "test": "eval",
    "score": "eval",
    "learn": "train",
    "fit": "train",
    "run": "train",
    "continue": "resume",
    "load": "resume",
    "tune": "sweep",
    "optimize": "sweep",
    "list": "runs",
    "ls": "runs",
    "delete": "rm",
    "deploy": "serve",
}
"""What other programs call verbs of ours."""


def option_meant(option: str, known: Iterable[str]) -> str:
    """The whole name of the option that was meant: the same name in another section first, then one spelt alike.

    Args:
        option: The dotted name that was given.
        known: The dotted names of all options.

    Returns:
        The dotted name, or an empty text where none is near.
    """
    section, _, name = option.rpartition(".")
    name = OTHER_NAMES.get(name, name)
    by_depth = sorted(known, key=lambda each: (each.rpartition(".")[0] != section, each.count("."), len(each)))
    if not name:
        return ""
    names = [each.rpartition(".")[2] for each in by_depth]
    if name in names:
        return by_depth[names.index(name)]
    here = [each for each in by_depth if each.rpartition(".")[0] == section]
    for among, cutoff in ((here, 0.6), (by_depth, 0.7)):
        last = {each.rpartition(".")[2]: each for each in reversed(among)}
        if near := difflib.get_close_matches(name, last, n=1, cutoff=cutoff):
            return last[near[0]]
    return ""


def options_of(model: type[BaseModel], prefix: str = "") -> Iterator[str]:
    """The dotted names of all options of a model, those of nested models included."""
    for name, field in model.model_fields.items():
        yield prefix + name
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            yield from options_of(field.annotation, f"{prefix}{name}.")


def written_as_option(word: str) -> str:
    """``--agent.gamma 0.9`` for Hydra's ``agent.gamma=0.9``; empty for a word that is none of its kind."""
    name, equals, value = word.partition("=")
    written = equals and value and all(part.isidentifier() for part in name.split("."))
    return f"--{name.replace('_', '-')} {value}" if written else ""


def as_python(option: str) -> str:
    """How an option is given to :func:`rltrain.train`: ``agent.gamma`` as ``agent={'gamma': ...}``."""
    first, *rest = option.split(".")
    if not rest:
        return f"{first}=..."
    if first == "env":
        first, rest = ("env_kwargs", rest[1:]) if rest[0] == "kwargs" else ("env_options", rest)
    inside = "..."
    for part in reversed(rest):
        inside = f"{{'{part}': {inside}}}"
    return f"{first}={inside}"


def value_meant(option: str, value: Any) -> str:
    """What to write in place of a value as it is written for Stable-Baselines3; empty where that is not known."""
    name = option.rpartition(".")[2]
    if name == "policy_kwargs":
        return "Give each by itself: --agent.policy-kwargs.net-arch '[64, 64]', and so on."
    if name == "kwargs":
        return "Give each argument by itself: --env.kwargs.NAME VALUE; from Python, env_kwargs={name: value}."
    if "net_arch" in option and isinstance(value, dict | list | str):
        return (
            "Give the widths of the hidden layers: [64, 64]; or, where an agent has two networks, {pi: [64], vf: [64]}."
        )
    if name == "features_extractor_class":
        return "Give 'auto' or 'flatten', or from Python a class of your own."
    if name == "activation_fn":
        return "Give its name: 'relu' for torch.nn.ReLU."
    if callable(value):
        return "Write a number, or 'lin_0.001' to fall linearly from 0.001 to 0: a run folder cannot hold a function."
    if isinstance(value, str) and (short := re.fullmatch(r"([\d.]+)([kKmM])", value)):
        number = f"{short[1]}e{3 if short[2] in 'kK' else 6}"
        return f"Write {number}."
    return ""
