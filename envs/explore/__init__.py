"""Tasks that each test one ability (exploring, discounting, choosing), and probes that find bugs in agents."""

from rltrain.registry import register_env


def register() -> None:
    """Registers the family."""
    register_env(
        "rltrain/DeepSea-v0",
        "rltrain.envs.explore.deep_sea:DeepSea",
        group="explore",
        description="Dive to a treasure that random moves find once in a thousand times.",
        reward_threshold=0.9,
    )
    register_env(
        "rltrain/DeepSeaStochastic-v0",
        "rltrain.envs.explore.deep_sea:DeepSea",
        group="explore",
        description="Dive to a treasure through a current, misled by noise.",
        kwargs={"deterministic": False},
    )
    register_env(
        "rltrain/DiscountingChain-v0",
        "rltrain.envs.explore.discounting_chain:DiscountingChain",
        group="explore",
        description="Choose the best paid of five chains, which pays last.",
        reward_threshold=1.09,
    )
    register_env(
        "rltrain/Bandit-v0",
        "rltrain.envs.explore.bandit:Bandit",
        group="explore",
        description="Find the best of ten arms within an episode of 100 pulls.",
    )
    register_probes()


def register_probes() -> None:
    """Registers the probes, which have a group of their own."""
    probes: dict[str, tuple[str, int | None, float | None]] = {
        "ConstantReward": ("Learn that a reward of 1 for ever is worth 1 / (1 - gamma).", 4, None),
        "ObservationReward": ("Learn that an observation is worth what is seen.", None, None),
        "Bandit": ("Pull the one of two arms that pays.", None, 0.95),
        "ActionReward": ("Choose the action that is seen.", None, 0.9),
        "Target": ("Hit the one of two targets that is seen, with a real number.", None, 0.9),
        "DelayedReward": ("Take the action that pays two steps later.", None, 0.95),
        "Autoreset": ("Learn the value of a state although the time limit ends every episode after one step.", 1, None),
    }
    for name, (description, max_episode_steps, reward_threshold) in probes.items():
        register_env(
            f"rltrain/Probe-{name}-v0",
            f"rltrain.envs.explore.probes:{name}",
            group="probes",
            description=description,
            max_episode_steps=max_episode_steps,
            reward_threshold=reward_threshold,
        )
