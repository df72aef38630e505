"""MTCNN's networks against a writing of them in torch, with the weights as the reader of checkpoints reads them."""

from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from ganserve.faces.networks import FILES, Network, propose, read_weights, refine, settle
from models.checkpoints.read import load

# Each network by the paper's table: convolutions and dense layers by name, P for its PReLU, a number for a max pool of
# that size; then its heads.
TRUNKS = {
    "pnet": ("conv1 P 2 conv2 P conv3 P", "conv4_1 conv4_2"),
    "rnet": ("conv1 P 3 conv2 P 3 conv3 P dense4 P", "dense5_1 dense5_2"),
    "onet": ("conv1 P 3 conv2 P 3 conv3 P 2 conv4 P dense5 P", "dense6_1 dense6_2 dense6_3"),
}
SIDES = {"pnet": (37, 52), "rnet": (24, 24), "onet": (48, 48)}
OURS = {"pnet": propose, "rnet": refine, "onet": settle}


def layer(state: dict[str, Tensor], name: str, x: Tensor) -> Tensor:
    weight, bias = state[f"{name}.weight"], state[f"{name}.bias"]
    if weight.ndim == 4:
        return F.conv2d(x, weight, bias)
    x = x.permute(0, 3, 2, 1).reshape(len(x), -1) if x.ndim == 4 else x
    return F.linear(x, weight, bias)


def by_torch(state: dict[str, Tensor], name: str, x: Tensor) -> list[Tensor]:
    """The heads' outputs, N first and channels last; the first is how sure it is of a face."""
    trunk, heads = TRUNKS[name]
    last = ""
    for word in trunk.split():
        if word == "P":
            x = F.prelu(x, state[f"prelu{last[-1]}.weight"])
        elif word.isdecimal():
            x = F.max_pool2d(x, int(word), 2, ceil_mode=True)
        else:
            x, last = layer(state, word, x), word
    found = [layer(state, head, x) for head in heads.split()]
    return [found[0].softmax(1)[:, 1], *(each.permute(0, 2, 3, 1) if each.ndim == 4 else each for each in found[1:])]


@pytest.mark.parametrize("name", FILES)
def test_a_network_agrees_with_torch(name: str, mtcnn: Path) -> None:
    state = load(mtcnn / f"{name}.pt")
    n = 1 if name == "pnet" else 3
    images = np.random.default_rng(0).uniform(-1, 1, (n, 3, *SIDES[name])).astype(np.float32)
    ours = OURS[name](Network(read_weights(mtcnn / f"{name}.pt")), images.transpose(1, 0, 2, 3))
    theirs = by_torch(state, name, torch.from_numpy(images))
    assert len(ours) == len(theirs)
    for our, their in zip(ours, theirs, strict=True):
        wanted = their.numpy()[0] if name == "pnet" else their.numpy()
        if our.shape == (n, 5, 2):  # x of all landmarks, then y
            wanted = wanted.reshape(n, 2, 5).swapaxes(1, 2)
        np.testing.assert_allclose(our, wanted, atol=5e-6)
        assert np.ptp(wanted) > 1e-4


def test_another_file_is_refused(mtcnn: Path, tmp_path: Path) -> None:
    (tmp_path / "pnet.pt").write_bytes((mtcnn / "rnet.pt").read_bytes())
    with pytest.raises(ValueError, match=r"no conv2\.weight of 1440 numbers at byte 1938"):
        read_weights(tmp_path / "pnet.pt")
