"""The hyperparameters of conservative Q-learning."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from rltrain.agents.parts.settings import OfflineConfig, QNetworkKwargs


class CQLConfig(OfflineConfig):
    """Hyperparameters of conservative Q-learning."""

    alpha: Annotated[float, Field(ge=0.0)] = 1.0
    """Weight of the penalty on the values of actions that the data do not have; 0 is Q-learning on the data alone."""
    double_q: bool = True
    """Choose the next action by the network and value it by the target network."""
    dueling: bool = False
    """Add up action values from the value of the state and advantages of the actions."""
    policy_kwargs: QNetworkKwargs = QNetworkKwargs()
