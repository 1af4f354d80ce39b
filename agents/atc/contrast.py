"""The network that tells the observation which follows from those that do not, and its loss."""

from __future__ import annotations

from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from rltrain.env import Observation
from rltrain.tree import tree_map


class Contrast(nn.Module):
    """Codes of observations, and what follows an observation, predicted from its code.

    Args:
        layers: From scaled observations (B, *O) to features (B, F), by name, in order.
        features: F.
        latent: C, the numbers in a code.
    """

    def __init__(self, layers: Mapping[str, nn.Module], features: int, latent: int) -> None:
        super().__init__()
        self.layers = tuple(layers)
        for name, layer in layers.items():
            self.add_module(name, layer)
        self.projection = nn.Linear(features, latent)
        self.predictor = nn.Sequential(nn.Linear(latent, latent), nn.ReLU(), nn.Linear(latent, latent))
        self.similarity = nn.Linear(latent, latent, bias=False)

    def features(self, obs: Observation) -> Tensor:
        """What the policy computes from scaled observations: (B, F)."""
        out = obs
        for name in self.layers:
            out = self.get_submodule(name)(out)
        assert isinstance(out, Tensor)
        return out

    def code(self, obs: Observation) -> Tensor:
        """(B, C)."""
        return self.projection(self.features(obs))

    def predicted(self, obs: Observation) -> Tensor:
        """What the codes some steps later are compared with, (B, C)."""
        code = self.code(obs)
        return self.similarity(code + self.predictor(code))


def contrastive_loss(predicted: Tensor, codes: Tensor) -> tuple[Tensor, Tensor]:
    """InfoNCE (van den Oord et al. 2018, arXiv:1807.03748, equation 4), where row i of both belongs together.

    Args:
        predicted: (B, C).
        codes: (B, C) of the observations that follow; without a gradient.

    Returns:
        The mean cross-entropy of finding the code that belongs to a prediction among all B, and how often it is the
        one with the largest inner product; each 0-d.
    """
    logits = predicted @ codes.T
    own = torch.arange(len(logits), device=logits.device)
    return F.cross_entropy(logits, own), (logits.detach().argmax(1) == own).float().mean()


def shifted(obs: Observation, pixels: int, rng: torch.Generator | None, *, first: bool) -> Observation:
    """Moves every picture of a batch by itself, with the border repeated (Kostrikov et al. 2020, arXiv:2004.13649).

    Args:
        obs: Observations (B, *O); what is not a picture stays as it is.
        pixels: The largest move.
        rng: Draws the moves.
        first: Whether the channels of pictures come first.
    """

    def moved(picture: Tensor) -> Tensor:
        if picture.dim() != 4:
            return picture
        last = picture.movedim(1, -1) if first else picture
        n, height, width = last.shape[:3]
        by = torch.randint(-pixels, pixels + 1, (2, n, 1), device=last.device, generator=rng)
        rows = (torch.arange(height, device=last.device) + by[0]).clamp(0, height - 1)
        columns = (torch.arange(width, device=last.device) + by[1]).clamp(0, width - 1)
        every = torch.arange(n, device=last.device).view(n, 1, 1)
        out = last[every, rows.unsqueeze(2), columns.unsqueeze(1)]
        return out.movedim(-1, 1) if first else out

    return tree_map(moved, obs)
