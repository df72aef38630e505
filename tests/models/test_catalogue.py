"""Recognising generators, and refusing what only looks like one."""

from pathlib import Path

import pytest
import torch
from torch import nn

from models.architecture import Architecture, ArchitectureError, Generator, StateDict
from models.catalogue import ARCHITECTURES, build, detect
from models.families.basic.cgan import ConditionalGenerator
from models.families.basic.dcgan import DcganGenerator
from models.families.superres.rrdb import RrdbConfig, RrdbNet
from models.families.superres.srvgg import SrvggNet
from tests.models.all_cases import CASES, FIRST
from tests.models.cases.base import ready


class Discriminator(nn.Module):
    """pytorch/examples dcgan's other network."""

    def __init__(self) -> None:
        super().__init__()
        layers: list[nn.Module] = [nn.Conv2d(3, 8, 4, 2, 1, bias=False), nn.LeakyReLU(0.2)]
        for width in (8, 16):
            layers += [nn.Conv2d(width, 2 * width, 4, 2, 1, bias=False), nn.BatchNorm2d(2 * width), nn.LeakyReLU(0.2)]
        self.main = nn.Sequential(*layers, nn.Conv2d(32, 1, 4, 1, 0, bias=False), nn.Sigmoid())


def test_the_page_of_checkpoints_names_every_architecture() -> None:
    page = (Path(__file__).parents[2] / "docs" / "checkpoints.md").read_text()
    assert [name for name in ARCHITECTURES if f"`{name}`" not in page] == []


def test_a_discriminator_is_named_and_refused() -> None:
    with pytest.raises(ArchitectureError, match=r"DCGAN discriminator .* not the generator"):
        detect(Discriminator().state_dict())


def test_a_discriminator_is_refused_also_when_the_architecture_is_forced() -> None:
    with pytest.raises(ArchitectureError, match=r"--arch dcgan: .*discriminator"):
        build(Discriminator().state_dict(), "dcgan")


def test_a_classifier_is_unknown_and_it_is_said_where_the_known_are() -> None:
    classifier = nn.Sequential(nn.Conv2d(1, 8, 3), nn.Flatten(), nn.Linear(8, 10))
    with pytest.raises(ArchitectureError, match=r"no known generator: .*`ganserve architectures` lists the known"):
        detect(classifier.state_dict())


def test_a_plain_conv_net_named_body_is_no_upscaler() -> None:
    state = {"body.0.weight": torch.zeros(8, 3, 3, 3), "body.1.weight": torch.zeros(8, 8, 1, 1)}
    with pytest.raises(ArchitectureError, match="no known generator"):
        detect(state)


def test_weights_that_fit_several_architectures_name_them_all() -> None:
    def never(state: StateDict, settings: object) -> Generator:
        raise AssertionError("not built")

    twin = Architecture("twin", "a test", lambda state: True, never)
    with pytest.raises(ArchitectureError, match="fit dcgan, twin; say which with --arch"):
        detect(DcganGenerator((4, 8, 3)).state_dict(), {**ARCHITECTURES, "twin": twin})


def test_an_unknown_architecture_is_refused_with_the_choices() -> None:
    with pytest.raises(ArchitectureError, match="--arch stylegan9: must be auto or one of dcgan"):
        build({}, "stylegan9")


def test_what_the_shapes_say_cannot_be_set() -> None:
    with pytest.raises(ArchitectureError, match=r"--set nz: .* settable: eps"):
        build(DcganGenerator((4, 8, 3)).state_dict(), overrides={"nz": "64"})


def test_a_setting_of_another_type_is_refused() -> None:
    with pytest.raises(ArchitectureError, match="eps=big: must be float"):
        build(DcganGenerator((4, 8, 3)).state_dict(), overrides={"eps": "big"})


def test_batchnorm_epsilon_can_be_set() -> None:
    state = DcganGenerator((4, 8, 3)).state_dict()
    latent = torch.ones(1, 4)
    usual = build(state)[1].network(latent)
    assert not torch.equal(usual, build(state, overrides={"eps": "0.8"})[1].network(latent))


def test_state_dicts_of_old_torch_have_no_batch_counter() -> None:
    state = DcganGenerator((4, 8, 3)).state_dict()
    old = {key: value for key, value in state.items() if not key.endswith("num_batches_tracked")}
    assert build(old)[0] == "dcgan"


def test_without_prelu_the_user_says_the_activation() -> None:
    state = SrvggNet(3, 8, 4, 4, "relu").state_dict()
    with pytest.raises(ArchitectureError, match="--set activation=relu"):
        build(state)
    assert build(state, overrides={"activation": "relu"})[1].hyperparameters["act_type"] == "relu"
    with pytest.raises(ArchitectureError, match="must be one of relu, leakyrelu"):
        build(state, overrides={"activation": "gelu"})


def test_a_tensor_too_many_or_of_another_shape_is_named() -> None:
    state = dict(RrdbNet(RrdbConfig(3, 3, 8, 4, 1)).state_dict())
    with pytest.raises(ArchitectureError, match=r"rrdb: 1 missing tensors, first 'conv_hr\.bias'"):
        build({key: value for key, value in state.items() if key != "conv_hr.bias"})
    with pytest.raises(ArchitectureError, match=r"rrdb: conv_up1\.bias is \(9,\), expected \(8,\)"):
        build({**state, "conv_up1.bias": torch.zeros(9)})


@pytest.mark.parametrize("end", ["1.theta.weight", "attn1.query_conv.weight"])
def test_shapes_that_contradict_each_other_are_refused_in_one_line(end: str) -> None:
    name = "biggan" if "theta" in end else "sagan-heykeetae"
    state = dict(CASES[FIRST[name]].file(ready(CASES[FIRST[name]])))
    key = next(key for key in state if key.endswith(end))
    without = {other: tensor for other, tensor in state.items() if other != key}
    for changed in ({**state, key: state[key][:1]}, without):
        with pytest.raises(ArchitectureError, match=name) as caught:
            build(changed, name)
        assert "\n" not in str(caught.value)


def test_a_label_embedding_makes_it_conditional() -> None:
    assert build(ConditionalGenerator(classes=4, width=8).state_dict())[1].classes == 4
