"""Residual generators: relatives that are none, and what files leave open."""

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils import spectral_norm

from models.architecture import ArchitectureError
from models.catalogue import build, detect
from tests.models.cases.base import Case, ready
from tests.models.cases.biggan import CASES as BIGGAN
from tests.models.cases.biggan import small
from tests.models.cases.biggan_deep import CASES as DEEP
from tests.models.cases.mimicry import CASES as MIMICRY
from tests.models.cases.studiogan import CASES as STUDIOGAN
from tests.models.references import mimicry
from tests.models.references.biggan import SpectralConv, SpectralLinear


def state_of(case: Case) -> dict[str, Tensor]:
    return dict(case.file(ready(case)))


class MimicryDiscriminator(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        for index, before in enumerate((3, 8, 8), start=1):
            block = nn.Module()
            block.c1, block.c2 = spectral_norm(nn.Conv2d(before, 8, 3)), spectral_norm(nn.Conv2d(8, 8, 3))
            block.c_sc = spectral_norm(nn.Conv2d(before, 8, 1))
            self.add_module(f"block{index}", block)
        self.l4 = spectral_norm(nn.Linear(8, 1))


class BigGanDiscriminator(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        block = nn.Module()
        block.conv1, block.conv2, block.conv_sc = SpectralConv(3, 8), SpectralConv(8, 8), SpectralConv(3, 8, 1)
        self.blocks = nn.ModuleList([nn.ModuleList([block])])
        self.linear = SpectralLinear(8, 1)
        self.embed = nn.Embedding(5, 8)


class StudioDiscriminator(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        block = nn.Module()
        block.conv2d0, block.conv2d1 = nn.Conv2d(3, 8, 1), nn.Conv2d(3, 8, 3)
        block.conv2d2 = nn.Conv2d(8, 8, 3)
        self.blocks = nn.ModuleList([nn.ModuleList([block])])
        self.linear1 = nn.Linear(8, 1)


@pytest.mark.parametrize(
    ("network", "sentence"),
    [
        (MimicryDiscriminator, "a residual discriminator of kwotsin/mimicry"),
        (BigGanDiscriminator, "a BigGAN discriminator"),
        (StudioDiscriminator, "a StudioGAN discriminator"),
    ],
)
def test_discriminators_are_named_and_refused(network: type[nn.Module], sentence: str) -> None:
    with pytest.raises(ArchitectureError, match=sentence):
        detect(network().state_dict())


def test_studiogans_networks_that_are_not_read_are_named() -> None:
    state = state_of(STUDIOGAN["studiogan-unconditional"])
    with pytest.raises(ArchitectureError, match="InfoGAN's extra codes, which are not read"):
        detect({**state, "info_mix_linear.weight": torch.zeros(12, 20), "info_mix_linear.bias": torch.zeros(12)})
    convs = {"linear0.weight": torch.zeros(64, 4), "conv4.weight": torch.zeros(3, 4, 3, 3)}
    with pytest.raises(ArchitectureError, match="deep_conv, which is not read"):
        detect({**convs, "blocks.0.0.deconv0.weight": torch.zeros(4, 4, 4, 4)})


@pytest.mark.parametrize("case", [BIGGAN["biggan-no-hier"], MIMICRY["sngan-48"], STUDIOGAN["studiogan-unconditional"]])
def test_a_missing_and_a_foreign_tensor_are_named(case: Case) -> None:
    state = state_of(case)
    with pytest.raises(ArchitectureError, match="1 unknown tensors, first 'extra'"):
        build({**state, "extra": torch.zeros(1)}, overrides=case.overrides)
    lost = next(key for key in state if key.endswith(("conv2.bias", "c2.bias", "conv2d2.bias")))
    with pytest.raises(ArchitectureError, match=r"1 missing tensors, first 'layers\.0\.conv2\.bias'"):
        build({key: tensor for key, tensor in state.items() if key != lost}, overrides=case.overrides)


def test_deep_weights_without_their_batch_norm_are_refused() -> None:
    state = state_of(DEEP["biggan-deep"])
    del state["generator.bn.weight"]
    with pytest.raises(ArchitectureError, match=r"missing tensor 'bn\.weight'"):
        build(state)


def test_doubling_is_said_for_every_block() -> None:
    state = state_of(DEEP["biggan-deep"])
    assert build(state, overrides={"doubles": "10"})[1].image_size_px == (8, 8)
    with pytest.raises(ArchitectureError, match="doubles=0: must be a 0 or 1 for each of 2 blocks"):
        build(state, overrides={"doubles": "0"})


def test_a_repository_that_adds_its_gains_can_be_told_to_multiply() -> None:
    network = ready(BIGGAN["biggan-cross-replica"])
    plain = small().eval()
    state = {key.replace(".bn.running_", ".stored_"): tensor for key, tensor in network.state_dict().items()}
    state = {key: tensor for key, tensor in state.items() if not key.endswith("num_batches_tracked")}
    plain.load_state_dict(state)
    latent, label = torch.randn(2, 20), torch.tensor([0, 4])
    _, generator = build(network.state_dict(), overrides={"cross_replica_gain": "multiply"})
    with torch.no_grad():
        expected = plain(latent, plain.shared(label))
        torch.testing.assert_close(generator.network(latent, label), expected, rtol=0, atol=2e-4)


def test_standing_statistics_can_be_taken_as_they_are() -> None:
    state = state_of(BIGGAN["biggan-standing-statistics"])
    key = "layers.0.norm1.norm.running_var"
    divided = build(state)[1].network.state_dict()[key]
    whole = build(state, overrides={"standing_stats": "no"})[1].network.state_dict()[key]
    torch.testing.assert_close(whole, 8 * divided)


def test_where_attention_stands_is_asked_where_several_blocks_fit() -> None:
    network = mimicry.Generator((16, 16, 16, 16, 16), 9, classes=5, attention=3)
    with pytest.raises(ArchitectureError, match="pass --set attention_after=K, K of 2, 3, 4, 5"):
        build(network.state_dict())
    _, generator = build(network.state_dict(), overrides={"attention_after": "4"})
    assert generator.hyperparameters["attention_px"] == 32


def test_the_backbone_is_asked_where_classes_are_as_many_as_the_latents_numbers() -> None:
    state = state_of(STUDIOGAN["studiogan-as-many-classes-as-numbers"])
    with pytest.raises(ArchitectureError, match="pass --set backbone=resnet or --set backbone=big_resnet"):
        build(state)


def test_an_unknown_activation_in_a_config_is_refused() -> None:
    state = state_of(STUDIOGAN["studiogan-unconditional"])
    with pytest.raises(ArchitectureError, match="g_act_fn=Swish"):
        build(state, config={"MODEL": {"g_act_fn": "Swish"}})
