"""What the files of teaching repositories cannot say, and what is not a generator among them."""

import itertools
from collections.abc import Mapping
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from models.architecture import ArchitectureError
from models.catalogue import ARCHITECTURES, build
from models.checkpoints.read import read
from tests.models.cases.base import trained
from tests.models.cases.pytorch_gan import CASES as PYTORCH_GAN
from tests.models.references import dcgan, mlp
from tests.models.references.discriminators import DISCRIMINATORS


def perceptron(widths: tuple[int, ...], prefix: str = "layers.") -> dict[str, Tensor]:
    """Linear layers and nothing said about what is between them."""
    linears = [nn.Linear(before, after) for before, after in itertools.pairwise(widths)]
    return {
        f"{prefix}{2 * index}.{key}": tensor
        for index, linear in enumerate(linears)
        for key, tensor in linear.state_dict().items()
    }


@pytest.mark.parametrize("repository", DISCRIMINATORS)
def test_a_discriminator_is_no_generator_and_is_called_one(repository: str) -> None:
    state = DISCRIMINATORS[repository]
    assert [name for name, entry in ARCHITECTURES.items() if entry.matches(state)] == []
    with pytest.raises(ArchitectureError, match="discriminator"):
        build(state)


@pytest.mark.parametrize(
    ("case", "candidates"),
    [
        ("infogan", "dcgan-upsampling, infogan"),
        ("dcgan-upsampling-of-74", "dcgan-upsampling, infogan"),
        ("acgan", "acgan, sgan"),
        ("sgan", "acgan, sgan"),
    ],
)
def test_a_file_that_two_scripts_could_have_saved_is_refused_by_both_names(case: str, candidates: str) -> None:
    with pytest.raises(ArchitectureError, match=f"the weights fit {candidates}; say which with --arch"):
        build(trained(PYTORCH_GAN[case].reference()))


def test_an_infogan_of_other_sizes_is_asked_how_its_inputs_are_split() -> None:
    state = trained(PYTORCH_GAN["dcgan-upsampling"].reference())  # seven inputs
    with pytest.raises(ArchitectureError, match=r"7 inputs cannot hold 10 labels, a code of 2 .* --set classes=COUNT"):
        build(state, "infogan")
    _, generator = build(state, "infogan", {"classes": "3", "code": "0"})
    assert (generator.latent_size, generator.classes) == (4, 3)


def test_a_perceptron_of_nobody_known_is_asked_for_its_activations() -> None:
    state = perceptron((5, 16, 24, 144))
    with pytest.raises(ArchitectureError, match="--set activation=relu or leaky_relu"):
        build(state)
    with pytest.raises(ArchitectureError, match="--set output=tanh, sigmoid, none"):
        build(state, overrides={"activation": "relu"})
    _, generator = build(state, overrides={"activation": "leaky_relu", "slope": "0.3", "output": "sigmoid"})
    latent = torch.randn(3, 5)
    by_hand = latent
    for index, layer in enumerate((0, 2, 4)):
        by_hand = by_hand @ state[f"layers.{layer}.weight"].T + state[f"layers.{layer}.bias"]
        by_hand = torch.sigmoid(by_hand) if index == 2 else torch.where(by_hand > 0, by_hand, 0.3 * by_hand)
    torch.testing.assert_close(generator.network(latent).flatten(1), by_hand)
    assert generator.output_range == (0.0, 1.0)


@pytest.mark.parametrize(
    ("values", "overrides", "image"),
    [
        (144, {}, (1, 12)),
        (3 * 144, {}, (3, 12)),
        (2 * 144, {"channels": "2"}, (2, 12)),
        (2 * 144, {"img_size": "12"}, (2, 12)),
        (2 * 144, {"img_size": "12", "channels": "2"}, (2, 12)),
    ],
)
def test_the_picture_is_read_from_the_last_layers_size(
    values: int, overrides: Mapping[str, str], image: tuple[int, int]
) -> None:
    said = {"activation": "relu", "output": "tanh", **overrides}
    _, generator = build(perceptron((5, 16, values)), overrides=said)
    assert (generator.channels, generator.image_size_px[0]) == image


@pytest.mark.parametrize(
    ("overrides", "reason"),
    [
        ({}, "288 outputs are no square image of 1 or 3 channels: say --set img_size=PIXELS --set channels=COUNT"),
        ({"channels": "3"}, "288 outputs are no square image with channels 3"),
        ({"img_size": "11"}, "288 outputs are no square image with img_size 11"),
        ({"img_size": "12", "channels": "3"}, "288 outputs are not 3 channels of 12x12"),
    ],
)
def test_a_last_layer_that_is_no_square_image_is_refused(overrides: Mapping[str, str], reason: str) -> None:
    said = {"activation": "relu", "output": "tanh", **overrides}
    with pytest.raises(ArchitectureError, match=reason):
        build(perceptron((5, 16, 288)), overrides=said)


def test_where_a_label_enters_an_unknown_perceptron_is_asked() -> None:
    state = perceptron((5 + 3, 16, 144)) | {"label_emb.weight": torch.randn(4, 3)}
    said = {"activation": "relu", "output": "tanh"}
    with pytest.raises(ArchitectureError, match="--set label=first or last"):
        build(state, overrides=said)
    latent, label = torch.randn(2, 5), torch.tensor([3, 0])
    rows = state["label_emb.weight"][label]
    _, plain = build({key: tensor for key, tensor in state.items() if "label" not in key}, overrides=said)
    for place, order in (("first", [rows, latent]), ("last", [latent, rows])):
        _, generator = build(state, overrides={**said, "label": place})
        torch.testing.assert_close(generator.network(latent, label), plain.network(torch.cat(order, 1)))


def test_a_collection_generator_of_other_inputs_is_asked_what_they_are() -> None:
    state = trained(dcgan.Collection(112, 8, 4, 1, 16))
    with pytest.raises(ArchitectureError, match=r"112 inputs, .* --set latent=LENGTH --set classes=COUNT"):
        build(state)
    _, generator = build(state, overrides={"latent": "100", "classes": "10"})
    assert (generator.latent_size, generator.hyperparameters["code"], generator.classes) == (102, 2, 10)


def test_more_labels_than_inputs_are_refused() -> None:
    with pytest.raises(ArchitectureError, match="classes=6: the first layer has 6 inputs"):
        build(trained(dcgan.Natsu(6, 4, 3)), overrides={"classes": "6"})


def test_dcgan_takes_another_activation_where_the_user_says_so() -> None:
    state = trained(dcgan.Natsu(6, 4, 3))
    latent = torch.randn(2, 6)
    _, plain = build(state)
    _, leaky = build(state, overrides={"slope": "0.2", "output": "sigmoid"})
    assert leaky.output_range == (0.0, 1.0)
    assert not torch.allclose(plain.network(latent), 2 * leaky.network(latent) - 1, atol=0.01)


@pytest.mark.parametrize("wrapping", ["netG_state_dict", "generator", "generator_state_dict", "G"])
def test_a_whole_training_checkpoint_gives_its_generator(wrapping: str, tmp_path: Path) -> None:
    network, critic = mlp.PytorchGan(7, (8, 12), (1, 12, 12)), nn.Sequential(nn.Linear(144, 8), nn.Linear(8, 1))
    other = wrapping.replace("netG", "netD").replace("generator", "discriminator").replace("G", "D")
    optimizer = torch.optim.Adam(network.parameters())
    state = {f"module.{key}": tensor for key, tensor in network.state_dict().items()}
    path = tmp_path / "checkpoint.pth"
    torch.save(
        {"epoch": 3, other: critic.state_dict(), "optimizerG_state_dict": optimizer.state_dict(), "loss": 0.5}
        | {wrapping: state},
        path,
    )
    found, generator = build(read(path).state)
    latent = torch.randn(2, 7)
    assert found == "mlp"
    torch.testing.assert_close(generator.network(latent), network.eval()(latent))
