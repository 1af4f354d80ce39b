"""What is said of what can be wrong with a run: what to try, and where each threshold is from."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from rltrain.training.health_signs import (
    Reading,
    dead_critics,
    dead_gradient,
    dead_normaliser,
    entropy_collapse,
    evaluation_below,
    explained_variance,
    gradient_explosion,
    kl_blow_up,
    overestimation,
    return_stuck,
    temperature,
    throughput_fall,
    value_saturation,
)


@dataclass(frozen=True)
class Rule:
    """A diagnosis.

    Attributes:
        name: Its name, as in the tag ``health/NAME``.
        sees: From a log point to what is wrong there, as a sentence; None if nothing is.
        advice: What to try.
        source: Where the threshold is from.
        points: Log points in a row at which it must be seen.
        share: Share of the run over which it must be seen.
    """

    name: str
    sees: Callable[[Reading], str | None]
    advice: str
    source: str
    points: int = 3
    share: float = 0.0


RULES = (
    Rule(
        "entropy_collapse",
        entropy_collapse,
        "a larger --agent.ent-coef, a smaller --agent.learning-rate, or --agent.target-kl 0.02.",
        "ours: 2% of what a random policy has, and the return has hardly improved",
        share=0.05,
    ),
    Rule(
        "kl_blow_up",
        kl_blow_up,
        "a smaller --agent.learning-rate, fewer --agent.n-epochs, or --agent.target-kl 0.02.",
        "ten times the target_kl of 0.01 to 0.02 that OpenAI's Spinning Up and Stable-Baselines3's users set",
    ),
    Rule(
        "explained_variance",
        explained_variance,
        "a larger --agent.vf-coef, scaled rewards (--agent.normalize-reward true), or look whether observations tell "
        "what returns depend on.",
        "0 is what a constant explains (Stable-Baselines3's documentation of its logger), and the return has hardly "
        "improved",
        points=10,
        share=0.15,
    ),
    Rule(
        "gradient_explosion",
        gradient_explosion,
        "a smaller --agent.learning-rate, --agent.max-grad-norm 0.5, or scaled rewards.",
        "ours: two orders of magnitude above its own running mean",
    ),
    Rule(
        "dead_gradient",
        dead_gradient,
        "look whether units are saturated (HISTOGRAMS), another activation, a smaller --agent.learning-rate.",
        "the relative precision of float32 is 1.2e-7",
        points=5,
    ),
    Rule(
        "q_overestimation",
        overestimation,
        "a smaller --agent.learning-rate, slower targets (--agent.tau, --agent.target-update-interval), "
        "--agent.double-q true for dqn.",
        "|r| / (1 - gamma) bounds every return; beyond it van Hasselt et al. (2018), arXiv:1812.02648, speak of soft "
        "divergence",
    ),
    Rule(
        "value_saturation",
        value_saturation,
        "a larger --agent.vf-coef or --agent.learning-rate, scaled observations (--agent.normalize-obs true), or look "
        "whether units are saturated (HISTOGRAMS).",
        "ours: a hundredth of the deviation of returns",
        points=10,
        share=0.15,
    ),
    Rule(
        "dead_critics",
        dead_critics,
        "a smaller --agent.learning-rate, --agent.policy-kwargs.layer-norm true, scaled rewards.",
        "ours: about the precision of float32",
        points=3,
    ),
    Rule(
        "return_stuck",
        return_stuck,
        "look at a film (--video-freq) and at the reward; more exploration (--agent.ent-coef, "
        "--agent.exploration-fraction), a longer run, or another --agent.learning-rate.",
        "ours: half of the run, and less than this improvement",
        points=10,
    ),
    Rule(
        "evaluation_below_training",
        evaluation_below,
        "compare 'rltrain eval RUN --stochastic': a task may need chance; else look for settings of training that "
        "evaluations lack.",
        "ours: half of the range of returns in this run, in three evaluations during which neither return rises",
        points=3,
    ),
    Rule(
        "throughput_fall",
        throughput_fall,
        "look for other programs on this machine (htop, nvidia-smi), and for an environment that grows slower.",
        "ours: more than the noise of a shared machine",
        points=5,
    ),
    Rule(
        "dead_normaliser",
        dead_normaliser,
        "look at the observations: 'rltrain check ENV'; leave --agent.normalize-obs out.",
        "ours: half of all numbers",
    ),
    Rule(
        "temperature",
        temperature,
        "scaled rewards (--agent.normalize-reward true), another --agent.target-entropy, or a fixed --agent.ent-coef.",
        "ours: rewards of usual size leave it between 0.001 and 1 (Haarnoja et al. 2018, arXiv:1812.05905, section 5)",
    ),
)
