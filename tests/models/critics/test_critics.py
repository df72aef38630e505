"""Every layout against its repository's network: the same score for the same image, in the batch that it stands for."""

from collections.abc import Callable, Mapping
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from models.architecture import ArchitectureError
from models.checkpoints.read import CheckpointError
from models.critics.catalogue import build, recognise
from models.critics.critic import Compares, Judged
from models.critics.read import read_discriminator
from models.normalisation import as_old_names, fold
from tests.models.references import critics
from tests.models.references.discriminators import DISCRIMINATORS
from training.networks import stylegan2 as own
from training.recipes import digits, digits_gan, digits_wgan_gp

CASES: Mapping[str, tuple[str, Callable[[], nn.Module], tuple[int, int, int], int]] = {
    "examples": ("convolutional", lambda: critics.ExamplesD(3, 4), (3, 32, 32), 0),
    "wasserstein": ("convolutional", lambda: critics.WassersteinD(1, 4), (1, 32, 32), 0),
    "natsu": ("convolutional", lambda: critics.NatsuD(3, 4), (3, 16, 16), 0),
    "aladdin": ("convolutional", lambda: critics.AladdinD(3, 4), (3, 16, 16), 0),
    "pytorch-gan": ("perceptron", lambda: critics.GanD(144), (1, 12, 12), 0),
    "pytorch-gan cgan": ("perceptron", lambda: critics.CganD(144, 5), (1, 12, 12), 5),
    "pytorch-gan acgan": ("convolutional", lambda: critics.AcganD(1, 16, 5), (1, 16, 16), 5),
    "znxlwm": ("cdcgan", lambda: critics.ZnxlwmD(1, 5, 8), (1, 16, 16), 5),
    "rosinality": ("stylegan2", lambda: critics.RosinalityD((4, 6, 8)), (3, 16, 16), 0),
    "nvidia": ("stylegan2-ada", lambda: critics.NvidiaD((4, 6, 8), 0), (3, 16, 16), 0),
    "nvidia labels": ("stylegan2-ada", lambda: critics.NvidiaD((4, 6, 8), 5), (3, 16, 16), 5),
    "nvidia clamped": ("stylegan2-ada", lambda: critics.NvidiaD((4, 6), 0, 0.5), (3, 8, 8), 0),
    "digits": ("digits-projection", lambda: _Scores(digits.ProjectionDiscriminator(4)), (1, 28, 28), 10),
    "digits-gan": ("perceptron", lambda: digits_gan.Discriminator((16, 8)), (1, 28, 28), 0),
    "digits-wgan-gp": ("convolutional", lambda: digits_wgan_gp.Critic(4), (1, 32, 32), 0),
    "emoji-stylegan2": ("emoji-stylegan2", lambda: own.Discriminator((4, 6)), (3, 16, 16), 0),
    "images labels": ("emoji-stylegan2", lambda: own.Discriminator((4, 6), 5), (3, 16, 16), 5),
}


class _Scores(nn.Module):
    """A network that gives more than scores."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, *inputs: Tensor) -> Tensor:
        scores: Tensor = self.inner(*inputs)[0]
        return scores


def trained(make: Callable[[], nn.Module]) -> nn.Module:
    """A network with weights and statistics that are none of the initial ones, in eval mode."""
    torch.manual_seed(5)
    network = make()
    for name, tensor in network.state_dict().items():
        if name.endswith("running_var"):
            tensor.copy_(torch.rand_like(tensor) + 0.5)
        elif tensor.is_floating_point() and name.endswith(("running_mean", "bias")):
            tensor.copy_(torch.randn_like(tensor) * 0.3)
    return network.eval().requires_grad_(False)


def weights(network: nn.Module) -> dict[str, Tensor]:
    inner = network.inner if isinstance(network, _Scores) else network
    assert isinstance(inner, nn.Module)
    return dict(fold(as_old_names(inner.state_dict())))


@pytest.mark.parametrize("case", CASES)
def test_scores_are_those_of_the_repositorys_network(case: str) -> None:
    name, make, shape, classes = CASES[case]
    network = trained(make)
    state = weights(network)
    assert recognise(state) == (name,)
    config = {"b4.conv.conv_clamp": 0.5, "b4.mbstd.group_size": 4} if "clamped" in case else {}
    critic = build(name, state, Judged(shape, classes), config)
    images, labels = torch.rand(6, *shape) * 2 - 1, torch.arange(6) % max(1, classes)
    takes = [labels] if critic.classes else []
    if not critic.group:
        assert torch.allclose(critic.network(images, *takes), network(images, *takes), atol=1e-5)
        return
    references = images[3:]
    assert isinstance(critic.network, Compares)
    critic.network.refer(references)
    found = critic.network(images[:3], *(each[:3] for each in takes))
    for number in range(3):  # as if it were in one batch with the references
        batch = torch.cat([images[number : number + 1], references])
        expected = network(batch, *(labels[[number, 3, 4, 5]] for _ in takes))[0]
        assert abs(float(found[number] - expected)) < 1e-5 * max(1, abs(float(expected)))


@pytest.mark.parametrize("case", ["examples", "rosinality", "digits", "pytorch-gan cgan", "images labels"])
def test_a_critic_of_other_images_is_refused_with_both_sizes(case: str) -> None:
    name, make, (channels, side, _), classes = CASES[case]
    state = weights(trained(make))
    with pytest.raises(ArchitectureError, match=rf"{name} discriminator: .*{2 * side}"):
        build(name, state, Judged((channels, 2 * side, 2 * side), classes), {})
    if classes:
        with pytest.raises(ArchitectureError, match=f"{classes} classes, the generator has {classes + 1}"):
            build(name, state, Judged((channels, side, side), classes + 1), {})


@pytest.mark.parametrize("case", CASES)
def test_a_tensor_too_many_or_too_few_is_no_critic(case: str) -> None:
    _, make, shape, classes = CASES[case]
    state = weights(trained(make))
    first = next(key for key, tensor in state.items() if tensor.ndim > 1 and key.endswith("weight"))
    fewer = {key: tensor for key, tensor in state.items() if key != first}
    for wrong in ({**state, "extra.weight": torch.ones(3, 3)}, fewer):
        if found := recognise(wrong):
            with pytest.raises(ArchitectureError):
                build(found[0], wrong, Judged(shape, classes), {})


def test_generators_and_translators_are_no_critics() -> None:
    for name in ("yunjey", "PyTorch-GAN gan", "WassersteinGAN", "Natsu6767", "aladdinpersson", "znxlwm"):
        assert recognise(DISCRIMINATORS[name]), name
    generator = digits_gan.build_generator((8, 16))
    assert recognise(generator.state_dict()) == ()


def test_files_that_hold_both_networks_give_the_one_called_a_discriminator(tmp_path: Path) -> None:
    state = weights(trained(CASES["rosinality"][1]))
    other = {key: tensor * 2 for key, tensor in state.items()}
    torch.save({"g": {"style.1.weight": torch.ones(3, 3)}, "d": state}, path := tmp_path / "both.pt")
    found = read_discriminator(path, is_shared=True)
    assert found is not None
    assert (found.key, found.layouts) == ("d", ("stylegan2",))
    assert torch.equal(found.state["convs.0.0.weight"], state["convs.0.0.weight"])
    torch.save(state, path)
    assert read_discriminator(path, is_shared=True) is None  # nothing in the file calls it so
    assert read_discriminator(path, is_shared=False) is not None
    torch.save({"d_a": state, "d_b": other}, path)
    with pytest.raises(CheckpointError, match="copies of one network"):
        read_discriminator(path, is_shared=True)
