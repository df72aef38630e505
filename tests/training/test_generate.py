"""Seeds to inputs, as the server does; what alternating learners keep; the recipes' command."""

import copy
import re

import numpy as np
import torch
from torch import nn
from typer.testing import CliRunner

from training.__main__ import app
from training.alternating import Alternating, descend, frozen
from training.generate import AT_ONCE, draw, latents, noise


def test_a_seeds_latent_and_noise_are_consecutive_numbers_of_its_random_state() -> None:
    numbers = np.random.RandomState(7).randn(1, 5).astype(np.float32)
    np.testing.assert_array_equal(latents([3, 7], 2)[1:], numbers[:, :2])
    np.testing.assert_array_equal(noise([3, 7], 2, 3)[1:], numbers[:, 2:])


def test_pictures_drawn_in_parts_keep_their_order() -> None:
    rows = torch.arange(2.0 * AT_ONCE + 1)[:, None]
    np.testing.assert_array_equal(draw(nn.Identity(), rows), rows)


def learner() -> Alternating:
    network = nn.Linear(2, 1)
    return Alternating({"generator": network}, [torch.optim.Adam(network.parameters(), lr=0.1)])


def step(of: Alternating) -> None:
    descend(of.players[0], of.networks["generator"](torch.ones(3, 2)).square().mean())
    of.steps += 1


def test_an_alternating_learner_put_back_goes_on_as_it_would_have() -> None:
    torch.manual_seed(0)
    whole, other = learner(), learner()
    step(whole)
    other.load_state_dict(copy.deepcopy(whole.state_dict()))
    step(whole)
    step(other)
    assert other.steps == 2
    for key, tensor in whole.networks["generator"].state_dict().items():
        assert torch.equal(other.networks["generator"].state_dict()[key], tensor)


def test_a_frozen_network_passes_gradients_through_and_keeps_none() -> None:
    network, fake = nn.Linear(2, 1), torch.ones(1, 2, requires_grad=True)
    with frozen(network) as judged:
        judged(fake).sum().backward()
    assert fake.grad is not None
    assert network.weight.grad is None
    assert network.weight.requires_grad


def test_every_recipe_has_the_same_options() -> None:
    options = ("--epochs", "--seed", "--out", "--resume", "--data", "--device")
    names = [command.name for command in app.registered_commands]
    assert "digits" in names
    for name in names:
        shown = CliRunner().invoke(app, [str(name), "--help"], env={"COLUMNS": "200", "NO_COLOR": "1"}, color=False)
        said = re.sub(r"\x1b\[[0-9;]*m", "", shown.output)
        assert [option for option in options if option not in said] == [], name
