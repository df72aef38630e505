"""Networks of the user's own, exported from the process that trains them, and served as they are."""

import copy
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
import torch
from torch import Tensor, nn

import ganserve
from ganserve import Client, Exported, ExportError
from ganserve.module.samples import find_samples
from ganserve.module.trace import trace
from tests.serving import running

pytestmark = pytest.mark.slow

SEEDS = [3, 0, 7]


class Conditional(nn.Module):
    """Z 16 as a map, one-hot labels, and what training left beside the image."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.ConvTranspose2d(16 + 4, 8, 4)
        self.norm = nn.BatchNorm2d(8)
        self.last = nn.ConvTranspose2d(8, 3, 4, 2, 1)

    def forward(self, latent: Tensor, label: Tensor) -> tuple[Tensor, None]:
        hidden = self.first(torch.cat([latent, label[:, :, None, None]], 1))
        return torch.tanh(self.last(torch.relu(self.norm(hidden)))), None


class Unbatched(nn.Module):
    """Reads how many items there are as a Python number, so that a free batch cannot be traced."""

    def forward(self, latent: Tensor) -> Tensor:
        count = int(latent.sum().isfinite().item()) * latent.shape[0]
        return torch.tanh(latent.reshape(count, 1, 8, 8))


def translator() -> nn.Module:
    layers = (nn.Conv2d(3, 8, 4, 2, 1), nn.InstanceNorm2d(8), nn.ReLU(), nn.ConvTranspose2d(8, 3, 4, 2, 1), nn.Tanh())
    return nn.Sequential(*layers)


def linear(size: int = 64, last: Callable[[], nn.Module] = nn.Tanh) -> nn.Sequential:
    return nn.Sequential(nn.Linear(size, 192), nn.Unflatten(1, (3, 8, 8)), last())


def made(network: nn.Module) -> nn.Module:
    """With weights from a fixed seed, statistics that are not trivial, and the mode in which it is used."""
    state = torch.Generator().manual_seed(0)
    for tensor in (*network.parameters(), *network.buffers()):
        if tensor.is_floating_point():
            tensor.data = torch.rand(tensor.shape, generator=state) * 0.8 + (0.2 if tensor.ndim < 2 else -0.4)
    return network.eval()


NETWORKS = {"conditional": made(Conditional()), "translator": made(translator())}
ARGUMENTS: dict[str, dict[str, Any]] = {
    "conditional": {"latent_size": 16, "classes": 4, "labels": ["cat", "dog", "fox", "owl"]},
    "translator": {"task": "image-to-image"},
}


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Exported]:
    repository = tmp_path_factory.mktemp("own") / "repository"
    return {
        name: ganserve.export_module(network, repository=repository, name=name, **ARGUMENTS[name])
        for name, network in NETWORKS.items()
    }


@pytest.fixture(scope="module")
def client(exported: dict[str, Exported]) -> Iterator[Client]:
    with running(exported["translator"].folder.parents[1]) as server, Client(server.address) as opened:
        yield opened


def pixels(found: Tensor) -> np.ndarray[Any, Any]:
    levels: np.ndarray[Any, Any] = (found.detach().numpy()[0].transpose(1, 2, 0) + 1) * 127.5
    return levels


def latent(seed: int, *shape: int) -> Tensor:
    return torch.from_numpy(np.random.RandomState(seed).randn(1, int(np.prod(shape)))).float().reshape(1, *shape)


def test_a_served_image_is_what_the_module_gives(client: Client) -> None:
    images = client.generate("conditional", seeds=SEEDS, labels=["owl", "cat", "fox"])
    for image, seed, label in zip(images, SEEDS, (3, 0, 2), strict=True):
        own = NETWORKS["conditional"](latent(seed, 16, 1, 1), torch.eye(4)[[label]])[0]
        assert np.abs(image.array - pixels(own)).max() <= 0.51
        assert np.ptp(image.array) > 20


def test_a_translated_image_is_what_the_module_gives(client: Client) -> None:
    image = np.random.RandomState(0).randint(0, 256, (24, 40, 3)).astype(np.uint8)
    own = NETWORKS["translator"](torch.from_numpy(image.transpose(2, 0, 1)[None] / 127.5 - 1).float())
    assert np.abs(client.translate("translator", image).array - pixels(own)).max() <= 0.51


def test_where_torch_export_gives_up_the_tracer_takes_over(tmp_path: Path) -> None:
    samples = find_samples(Unbatched().eval(), 64, None, (-1, 1))
    trace(Unbatched().eval(), samples, tmp_path / "traced.onnx")
    session = onnxruntime.InferenceSession(tmp_path / "traced.onnx", providers=["CPUExecutionProvider"])
    assert session.get_modelmeta().producer_name == "pytorch"
    (found,) = session.run(["image"], samples.inputs[2])
    np.testing.assert_allclose(found, samples.images[2], atol=1e-6)


class Placed(nn.Module):
    """Has a weight for every px, so that images of other sizes do not fit."""

    def __init__(self) -> None:
        super().__init__()
        self.place = nn.Parameter(torch.ones(1, 3, 64, 96))

    def forward(self, image: Tensor) -> Tensor:
        return torch.tanh(image * self.place)


def test_a_network_of_one_size_is_written_with_that_size(tmp_path: Path) -> None:
    network = Placed().eval()
    trace(network, find_samples(network, None, None, (-1, 1)), tmp_path / "placed.onnx")
    session = onnxruntime.InferenceSession(tmp_path / "placed.onnx", providers=["CPUExecutionProvider"])
    assert session.get_inputs()[0].shape == [1, 3, 64, 96]


def test_notes_say_that_the_module_was_compared(exported: dict[str, Exported]) -> None:
    (said,) = (note for note in exported["conditional"].notes if "Conditional-in-torch.npz: largest difference" in note)
    assert said in exported["conditional"].manifest["provenance"]["notes"]
    assert exported["conditional"].manifest["labels"] == ["cat", "dog", "fox", "owl"]


def noisy() -> nn.Module:
    class Noisy(nn.Module):
        def forward(self, latent: Tensor) -> Tensor:
            return torch.randn(1, 3, 8, 8)

    return Noisy()


def several() -> nn.Module:
    class Several(nn.Module):
        def forward(self, latent: Tensor) -> tuple[Tensor, Tensor]:
            return latent, latent

    return Several()


def half_evaluated() -> nn.Module:
    network = linear().eval()
    network[0].train()
    return network


Z64: dict[str, Any] = {"latent_size": 64}
REFUSALS: dict[str, tuple[Any, dict[str, Any], str]] = {
    "training": (linear(), Z64, r"training mode, .*\.eval\(\)"),
    "part": (half_evaluated(), Z64, "training mode in its part '0'"),
    "half": (linear().eval().half(), Z64, r"0\.weight is torch\.float16, must be torch\.float32; .*\.float\(\)"),
    "device": (linear().eval().to("meta"), Z64, r"0\.weight is on meta"),
    "size": (linear().eval(), {"latent_size": 65}, r"latent_size=65: .*mat1.*its first layer, Linear '0', takes 64"),
    "image": (linear().eval(), {}, "no latent_size, so an image"),
    "flat": (nn.Linear(64, 192).eval(), Z64, r"gives a tensor \(1, 192\) for one item; an image has 4 axes"),
    "noisy": (noisy().eval(), Z64, "another image each time"),
    "several": (several().eval(), Z64, r"returns a tuple of 2 \(\(1, 64\), \(1, 64\)\)"),
    "class": (nn.Linear, Z64, "module is the class Linear"),
    "state": (linear().state_dict(), Z64, "module is a OrderedDict|module is a dict"),
    "function": (len, Z64, "must be a torch.nn.Module"),
    "name": (linear().eval(), {"name": "a/b", **Z64}, "name='a/b'"),
    "range": (linear().eval(), {"range": (1, -1), **Z64}, r"range=\(1, -1\): must be \(LOW, HIGH\)"),
    "classes": (linear().eval(), {"classes": 3}, "classes=3: needs latent_size"),
    "labels": (linear().eval(), {"labels": ["a"], **Z64}, "labels: 1 names for classes=None"),
}


@pytest.mark.parametrize("case", REFUSALS)
def test_what_cannot_be_exported_is_refused_before_it_is_traced(
    case: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ganserve.module.export.trace", lambda *given: pytest.fail("the module was traced"))
    module, arguments, sentence = REFUSALS[case]
    with pytest.raises(ExportError, match=sentence) as caught:
        ganserve.export_module(module, **{"repository": tmp_path / "r", "name": "m", **arguments})
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "r").exists()


def test_a_range_that_the_images_contradict_is_refused_in_words_of_python(tmp_path: Path) -> None:
    network = copy.deepcopy(made(linear(last=nn.Sigmoid)))
    with pytest.raises(ExportError, match=r"^range=-1,1: .* values are from .*; range=0,1 fits$"):
        ganserve.export_module(network, **Z64, repository=tmp_path / "r", name="m")
    assert not (tmp_path / "r").exists()


def test_neither_importing_nor_naming_it_needs_torch() -> None:
    code = "import sys, ganserve; sys.modules['torch'] = None\ntry:\n ganserve.export_module(1, latent_size=1,"
    code += " repository='r', name='m')\nexcept ganserve.ExportError as error:\n print(error)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "this needs: pip install 'ganserve[export]'  (no module named torch)\n"
