"""The built-in agents, registered by name. Importing this needs no torch."""

if __name__ != "rltrain.agents":
    raise ImportError(f"import this package as 'rltrain.agents', not as '{__name__}'")

from rltrain.registry import register_agent


def register() -> None:
    """Registers every built-in agent; called through the entry-point group ``rltrain.agents``."""
    register_agent(
        "ppo",
        "rltrain.agents.ppo.agent:PPO",
        "rltrain.agents.ppo.config:PPOConfig",
        description="Proximal Policy Optimization: on-policy, clipped; discrete and continuous actions.",
        stacked="rltrain.agents.ppo.stacked:StackedPPO",
    )
    register_agent(
        "dqn",
        "rltrain.agents.dqn.agent:DQN",
        "rltrain.agents.dqn.config:DQNConfig",
        description="Deep Q-learning from a replay, and what makes it Rainbow as options; discrete actions.",
    )
    register_agent(
        "pqn",
        "rltrain.agents.pqn.agent:PQN",
        "rltrain.agents.pqn.config:PQNConfig",
        description="Parallelised Q-learning: on rollouts of many environments, no replay; discrete actions.",
        stacked="rltrain.agents.pqn.stacked:StackedPQN",
    )
    register_agent(
        "sac",
        "rltrain.agents.sac.agent:SAC",
        "rltrain.agents.sac.config:SACConfig",
        description="Soft actor-critic from a replay: off-policy, learned entropy; continuous actions.",
    )
    register_agent(
        "bc",
        "rltrain.agents.bc.agent:BC",
        "rltrain.agents.bc.config:BCConfig",
        description="Behavioural cloning: the actions of a dataset, learned under supervision; all action spaces.",
        trainer="rltrain.training.offline:OfflineTrainer",
        learns_from_data=True,
    )
    register_agent(
        "iql",
        "rltrain.agents.iql.agent:IQL",
        "rltrain.agents.iql.config:IQLConfig",
        description="Implicit Q-learning from a dataset, and AWAC as an option; all action spaces.",
        trainer="rltrain.training.offline:OfflineTrainer",
        learns_from_data=True,
    )
    register_agent(
        "dt",
        "rltrain.agents.dt.agent:DT",
        "rltrain.agents.dt.config:DTConfig",
        description="Decision Transformer of Hugging Face's Transformers, from a dataset; all action spaces.",
        trainer="rltrain.training.offline:OfflineTrainer",
        learns_from_data=True,
    )
    register_agent(
        "cql",
        "rltrain.agents.cql.agent:CQL",
        "rltrain.agents.cql.config:CQLConfig",
        description="Conservative Q-learning from a dataset; discrete actions.",
        trainer="rltrain.training.offline:OfflineTrainer",
        learns_from_data=True,
    )
    register_agent(
        "atc",
        "rltrain.agents.atc.agent:ATC",
        "rltrain.agents.atc.config:ATCConfig",
        description="Augmented temporal contrast: an encoder from a dataset's observations, to start others from.",
        trainer="rltrain.training.offline:OfflineTrainer",
        learns_from_data=True,
    )
