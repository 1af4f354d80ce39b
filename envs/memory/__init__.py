"""Tasks that cannot be solved without remembering."""

from rltrain.registry import register_env


def register() -> None:
    """Registers the family."""
    register_env(
        "rltrain/MemoryChain-v0",
        "rltrain.envs.memory.memory_chain:MemoryChain",
        group="memory",
        description="Remember the bit that was shown at the start until it is asked for.",
        reward_threshold=0.9,
    )
    register_env(
        "rltrain/RepeatPrevious-v0",
        "rltrain.envs.memory.repeat_previous:RepeatPrevious",
        group="memory",
        description="Name the suit of the fourth last card while cards are dealt.",
        reward_threshold=0.9,
    )
