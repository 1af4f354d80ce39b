"""What the metrics of a run mean, by tag, and which of them are drawn in one chart."""

from __future__ import annotations

from collections.abc import Mapping

DESCRIPTIONS = {
    "rollout/ep_rew_mean": "Mean return of the last finished training episodes (`--stats-window-size`, 100).",
    "rollout/ep_len_mean": "Mean length, in steps, of the last finished training episodes.",
    "rollout/success_rate": "Share of the last training episodes that succeeded, where the environment says so.",
    "rollout/episodes": "Training episodes finished so far.",
    "rollout/exploration_rate": "Chance of a random action.",
    "rollout/reward_max": "Largest magnitude of a reward that the agent learns from at present.",
    "eval/mean_reward": "Mean return of evaluation episodes, which nothing is learned from.",
    "eval/std_reward": "Standard deviation of the returns of an evaluation, over its episodes.",
    "eval/iqm_reward": "Interquartile mean of an evaluation: the mean of the middle half of its returns, which a few "
    "outliers do not move. Agarwal et al. (2021), [arXiv:2108.13264](https://arxiv.org/abs/2108.13264).",
    "eval/mean_ep_length": "Mean length, in steps, of evaluation episodes.",
    "eval/success_rate": "Share of evaluation episodes that succeeded, where the environment says so.",
    "eval/film": "An episode of the policy at this step (`--video-freq`). The mp4 is in `videos/` of the run folder.",
    "time/fps": "Environment steps per second of training in this session. Compilation, evaluations, films and "
    "checkpoints are left out.",
    "time/time_elapsed": "Seconds in the training loop, over all sessions, everything included.",
    "time/iterations": "Rollouts, each followed by an update.",
    "time/eval_seconds": "Seconds spent on evaluations, over all sessions.",
    "time/video_seconds": "Seconds spent on films, over all sessions.",
    "time/save_seconds": "Seconds that training waited for checkpoints, over all sessions.",
    "time/resumed": "A point where the run was resumed. TEXT tells by which command.",
    "system/memory_gib": "Memory of this process, in GiB.",
    "system/device_memory_gib": "Memory of the accelerator that tensors occupy, in GiB.",
    "train/learning_rate": "Step size of Adam.",
    "train/n_updates": "Passes over the data (PPO, PQN), or gradient steps (DQN, SAC), so far.",
    "train/loss": "What is minimised. In reinforcement learning a falling loss is no sign of success by itself.",
    "train/grad_norm": "Norm of the gradient before it is clipped, mean over the minibatches.",
    "train/approx_kl": "How far an update moved the policy: estimated KL divergence. 0.01 is usual; above 0.2 the "
    "data no longer fit the policy that learns from them.",
    "train/clip_fraction": "Share of samples whose probability ratio left the clip range.",
    "train/clip_range": "How far the probability ratio may leave 1 before its gradient is cut.",
    "train/clip_range_vf": "The same for the change of the value.",
    "train/entropy_loss": "Minus the mean entropy of the policy. Near 0 a discrete policy is deterministic.",
    "train/explained_variance": "How well the value function predicts returns: 1 perfectly, 0 no better than their "
    "mean, below 0 worse than that.",
    "train/policy_gradient_loss": "The clipped surrogate objective, with its sign changed.",
    "train/value_loss": "Mean squared error of the value function.",
    "train/std": "Standard deviation of the actions, mean over their dimensions.",
    "train/value_spread": "Deviation of the values of different states, as a share of the deviation of what they are "
    "to predict; of Q-learners their own deviation. At 0 all states look alike.",
    "train/q_target": "Mean of the targets of the action values.",
    "train/q_value": "Mean of what the critics say of the minibatches.",
    "train/critic_loss": "Sum of the losses of the critics.",
    "train/critic_grad_norm": "Norm of the gradient of the critics.",
    "train/actor_loss": "What the policy minimises: the weighted log-probability minus the lowest value.",
    "train/actor_grad_norm": "Norm of the gradient of the policy.",
    "train/entropy": "Estimated entropy of the policy.",
    "train/ent_coef": "Weight of the entropy, the temperature.",
    "train/ent_coef_loss": "Loss of the weight of the entropy.",
    "train/dead_statistics": "Share of the normaliser's elements that have never changed.",
    "actions": "Actions of the last rollout, as the environment got them.",
    "advantages": "Advantages of the last rollout, before they are scaled.",
}
"""In Markdown, as TensorBoard shows it."""

GROUPS = {
    "info": "Mean over the steps since the last log point of a number in `info` of the environment (`--log-info`).",
    "health": "1 from where this diagnosis was made, 0 from where it was over. TEXT, `health`, tells what to try.",
    "actions": "This dimension of the actions of the last rollout.",
    "parameters": "Parameters of this name; a sample of at most 4,096 of them.",
    "gradients": "Gradient of the last minibatch, not clipped; a sample of at most 4,096 of its numbers.",
}
"""The same for all tags that begin with this and a slash."""

OVERVIEW: dict[str, dict[str, list[str]]] = {
    "Overview": {
        "return, training and evaluation": ["rollout/ep_rew_mean", "eval/mean_reward"],
        "success": ["rollout/success_rate", "eval/success_rate"],
        "episode length": ["rollout/ep_len_mean", "eval/mean_ep_length"],
    },
}
EVALUATION: dict[str, dict[str, list[str]]] = {
    "Evaluation": {
        "mean and interquartile mean": ["eval/mean_reward", "eval/iqm_reward"],
        "deviation": ["eval/std_reward"],
    },
    "Throughput": {
        "steps per second": ["time/fps"],
        "seconds beside training": ["time/eval_seconds", "time/video_seconds", "time/save_seconds"],
        "memory, GiB": ["system/memory_gib", "system/device_memory_gib"],
    },
}
HEALTH = {
    "ppo": {
        "how far updates move the policy": ["train/approx_kl", "train/clip_fraction"],
        "entropy, with its sign changed": ["train/entropy_loss"],
        "value function: explained variance": ["train/explained_variance"],
        "value function: loss": ["train/value_loss"],
        "gradient": ["train/grad_norm"],
        "deviation of actions": ["train/std"],
        "learning rate": ["train/learning_rate"],
    },
    "dqn": {
        "action values": ["train/q_target"],
        "loss": ["train/loss"],
        "gradient": ["train/grad_norm"],
        "exploration": ["rollout/exploration_rate"],
        "spread of values": ["train/value_spread"],
    },
    "sac": {
        "values": ["train/q_value"],
        "losses": ["train/critic_loss", "train/actor_loss"],
        "gradients": ["train/critic_grad_norm", "train/actor_grad_norm"],
        "temperature": ["train/ent_coef"],
        "entropy": ["train/entropy"],
        "spread of values": ["train/value_spread"],
    },
}
HEALTH["pqn"] = HEALTH["dqn"]
ANY = {"losses": ["train/.*loss"], "gradients": ["train/.*grad_norm"], "learning rate": ["train/learning_rate"]}
"""Charts of an agent that is not among these; tags are regular expressions."""


def description_of(tag: str, own: Mapping[str, str] | None = None) -> str:
    """What a tag means; empty if nobody says so.

    Args:
        tag: The tag.
        own: Descriptions of the agent's own tags.
    """
    return (own or {}).get(tag) or DESCRIPTIONS.get(tag) or GROUPS.get(tag.partition("/")[0] if "/" in tag else "", "")


def charts_of(algo: str) -> dict[str, dict[str, list[str]]]:
    """The charts of a run by heading and title: overview, health of its agent, evaluation, throughput."""
    return {**OVERVIEW, f"Health of {algo}": HEALTH.get(algo, ANY), **EVALUATION}
