"""State dicts under other keys, and whether they are what a network takes."""

import pytest
import torch
from torch import nn

from models.architecture import ArchitectureError
from models.state_dict import Rules, count, load, rename, require_shapes

STATE = {f"{layer}.{leaf}": torch.empty(0) for layer in ("stem", "body.0.conv1", "body.1.conv1") for leaf in "wb"}
RULES: Rules = {
    r"stem\.(\w+)": r"first.\1",
    r"body\.(\d+)\.conv1\.(\w+)": lambda found: f"blocks.{int(found[1]) + 1}.{found[2]}",
    r"body\..*": "never reached",
}


def test_the_first_rule_that_fits_the_whole_key_renames_it() -> None:
    assert list(rename(STATE, RULES)) == ["first.w", "first.b", "blocks.1.w", "blocks.1.b", "blocks.2.w", "blocks.2.b"]


def test_a_rule_without_a_replacement_drops_the_key() -> None:
    assert list(rename(STATE, {r"body\.\d+\.conv1\.\w": None})) == ["stem.w", "stem.b"]


def test_a_key_without_a_rule_stays_unless_every_key_must_have_one() -> None:
    assert list(rename(STATE, {r"stem": "too short for any key"})) == list(STATE)
    assert rename(STATE, {r"stem\.\w": r"\g<0>"}, strict=True) == {}
    assert list(rename(STATE, {r"stem\.\w": r"\g<0>", r"body\..*": None}, strict=True)) == ["stem.w", "stem.b"]


def test_a_list_has_as_many_members_as_keys_name() -> None:
    assert (count(STATE, "body"), count(STATE, "tail"), count({"a.b.7.w": torch.empty(0)}, "a.b")) == (2, 0, 1)


@pytest.mark.parametrize(
    ("shapes", "sentence"),
    [
        ({"w": (2,)}, r"1 unknown tensors, first 'b'"),
        ({"w": (2,), "b": (3,), "c": ()}, r"1 missing tensors, first 'c'"),
        ({"w": (2,), "b": (3, 1)}, r"b is \(3,\), expected \(3, 1\)"),
    ],
)
def test_missing_unknown_and_misshapen_tensors_are_named(shapes: dict[str, tuple[int, ...]], sentence: str) -> None:
    with pytest.raises(ArchitectureError, match=sentence):
        require_shapes({"w": torch.empty(2), "b": torch.empty(3)}, shapes)


def test_old_files_without_a_count_of_batches_load_in_eval_mode() -> None:
    trained = nn.BatchNorm2d(2)
    trained.running_mean = torch.tensor([1.0, 2.0])
    state = {key: tensor for key, tensor in trained.state_dict().items() if key != "num_batches_tracked"}
    loaded = load(nn.BatchNorm2d(2), state)
    assert torch.equal(loaded.get_buffer("running_mean"), trained.running_mean)
    assert not loaded.training
    assert not any(parameter.requires_grad for parameter in loaded.parameters())
