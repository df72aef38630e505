"""What learners of two or more players share: one step of a player, and everything that a resumed run needs."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn


class Alternating:
    """Networks by name, their players' optimisers and the count of steps; a learner derives from it and adds `step`."""

    def __init__(self, networks: Mapping[str, nn.Module], players: Sequence[torch.optim.Optimizer]) -> None:
        self.networks = dict(networks)
        self.players = tuple(players)
        self.steps = 0

    def state_dict(self) -> dict[str, Any]:
        """All networks, all optimisers and the count of steps."""
        networks = {name: network.state_dict() for name, network in self.networks.items()}
        return {"networks": networks, "players": [player.state_dict() for player in self.players], "steps": self.steps}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Puts back what `state_dict` gave."""
        for name, network in self.networks.items():
            network.load_state_dict(state["networks"][name])
        for player, found in zip(self.players, state["players"], strict=True):
            player.load_state_dict(found)
        self.steps = state["steps"]


def descend(player: torch.optim.Optimizer, loss: Tensor) -> float:
    """One step of `player` on `loss`, a scalar, which is given back as a number."""
    player.zero_grad()
    loss.backward()  # type: ignore[no-untyped-call]
    player.step()
    return loss.item()


@contextmanager
def frozen(network: nn.Module) -> Iterator[nn.Module]:
    """`network` without gradients of its own weights; those of its input are computed as ever, and cost less."""
    network.requires_grad_(False)
    try:
        yield network
    finally:
        network.requires_grad_(True)
