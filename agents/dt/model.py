"""The transformer of Hugging Face's Transformers behind an actor with memory."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from gymnasium import spaces
from torch import Tensor, nn

from rltrain.agent import Actor, ActOut, State
from rltrain.agents.dt.config import DTKwargs
from rltrain.agents.parts.critics import action_encoder
from rltrain.agents.parts.custom_networks import encoder_for
from rltrain.agents.parts.distributions import make_distribution
from rltrain.agents.parts.networks import mask_logits
from rltrain.env import Observation
from rltrain.errors import ConfigError
from rltrain.naming.installed import need


class Pieces(NamedTuple):
    """Pieces of episodes, (B, K) steps; those beyond the end of an episode come last and are not looked at."""

    features: Tensor  # (B, K, F) of observations
    action: Tensor  # (B, K, A) as numbers
    to_go: Tensor  # (B, K) return to go before each step, scaled
    time: Tensor  # (B, K) int64 step in its episode


def make_transformer(features: int, actions: int, context: int, config: DTKwargs) -> nn.Module:
    """A transformer from its configuration; nothing is downloaded.

    Raises:
        ConfigError: Transformers is not installed, or the heads do not divide the size.
    """
    need("transformers", install="rltrain[dt]")
    from transformers import DecisionTransformerConfig, DecisionTransformerModel

    if config.hidden_size % config.n_head:
        what = f"hidden_size={config.hidden_size} cannot be divided by n_head={config.n_head}."
        raise ConfigError(what, "Give --agent.policy-kwargs.n-head 1, or another divisor.")
    model: nn.Module = DecisionTransformerModel(
        DecisionTransformerConfig(
            state_dim=features,
            act_dim=actions,
            hidden_size=config.hidden_size,
            max_ep_len=config.max_ep_len,
            n_positions=3 * context,  # a return, an observation and an action for each step
            action_tanh=False,
            n_layer=config.n_layer,
            n_head=config.n_head,
            activation_function="relu",
            bos_token_id=None,  # of words, which it warns of
            eos_token_id=None,
            resid_pdrop=config.dropout,
            embd_pdrop=config.dropout,
            attn_pdrop=config.dropout,
        )
    )
    return model.train(False)


class DTActor(Actor):
    """Acts for the return that it is asked for, and remembers the last steps of the episode.

    The return to go falls by what was earned. An actor sees no rewards, so the model predicts it, from the observation
    and the action, as it has learned to for the data.

    Args:
        observation_space: Space of a single observation.
        action_space: Space of a single action.
        context: K, the steps that it looks back at.
        config: The transformer.

    Raises:
        ConfigError: There is no network or distribution for one of the spaces, or Transformers is not installed.
    """

    target: Tensor  # 0-d return that is asked for, scaled

    def __init__(
        self, observation_space: spaces.Space, action_space: spaces.Space, context: int, config: DTKwargs
    ) -> None:
        super().__init__()
        self.distribution = make_distribution(action_space, log_std_init=config.log_std_init)
        self.numbers = action_encoder(action_space)
        self.encoder = encoder_for(observation_space, config)
        self.context, self.last_step = context, config.max_ep_len - 1
        self.model = make_transformer(self.encoder.size, self.distribution.size, context, config)
        self.register_buffer("target", torch.zeros(()))

    def initial_state(self, n: int) -> State:
        """No steps, and the return that is asked for."""
        zeros = self.target.new_zeros
        return {
            "features": zeros(n, self.context, self.encoder.size),
            "action": zeros(n, self.context, self.distribution.size),
            "to_go": zeros(n, self.context),
            "next": self.target.expand(n).clone(),
            "steps": torch.zeros(n, dtype=torch.int64, device=self.target.device),
        }

    def predict(self, pieces: Pieces) -> tuple[Tensor, Tensor]:
        """Distribution parameters (B, K, P), and the return to go after each step, (B, K)."""
        out: Any = self.model(
            states=pieces.features,
            actions=pieces.action,
            returns_to_go=pieces.to_go.unsqueeze(-1),
            timesteps=pieces.time.clamp(max=self.last_step),
            attention_mask=torch.ones(pieces.time.shape, dtype=torch.int64, device=pieces.time.device),
            return_dict=True,
        )
        return out.action_preds, out.return_preds.squeeze(-1)

    def choose(self, obs: Observation, state: State, *, deterministic: bool, rng: torch.Generator | None) -> ActOut:
        """Actions (N, *A)."""
        steps: Tensor = state["steps"]
        full = steps >= self.context
        places = torch.arange(self.context, device=steps.device)
        here = places == steps.clamp(max=self.context - 1).unsqueeze(1)  # (N, K) the place of the present step

        def placed(name: str, value: Tensor) -> Tensor:
            """A window, moved on where it is full, with a value (N, ...) at the present step."""
            old: Tensor = state[name]
            shape = (-1, *(1,) * (old.dim() - 1))
            moved = torch.where(full.view(shape), old.roll(-1, 1), old)
            return torch.where(here.view(*here.shape, *(1,) * (old.dim() - 2)), value.unsqueeze(1), moved)

        def at_present(values: Tensor) -> Tensor:
            return (values * here.view(*here.shape, *(1,) * (values.dim() - 2))).sum(1)

        first = (steps - self.context + 1).clamp(min=0).unsqueeze(1)
        action = placed("action", torch.zeros_like(state["action"][:, 0]))
        pieces = Pieces(placed("features", self.encoder(obs)), action, placed("to_go", state["next"]), places + first)
        params = mask_logits(at_present(self.predict(pieces)[0]), obs)
        if deterministic:
            raw = self.distribution.mode(params)
        else:
            raw = self.distribution.sample(params, self.distribution.noise((len(params),), params.device, rng))
        chosen = self.distribution.to_env(raw)
        action = torch.where(here.unsqueeze(2), self.numbers(chosen).unsqueeze(1), action)
        following = at_present(self.predict(pieces._replace(action=action))[1])
        after = {"features": pieces.features, "action": action, "to_go": pieces.to_go}
        return ActOut(chosen, {**after, "next": following, "steps": steps + 1})
