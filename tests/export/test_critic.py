"""The discriminator at export: found, compared with torch, measured on the generator's own images, or refused."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from artifact.repository import verify
from export.critic.write import FIRST_REFERENCE, OwnImages
from export.errors import ExportError
from export.graph.parity import open_session
from export.pipeline import Exported, Request, export
from tests.models.references import critics


@pytest.fixture(autouse=True)
def few_images(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("export.critic.write.IMAGES", 48)
    monkeypatch.setattr("export.critic.write.IMAGES_OF_A_ROW", 16)
    monkeypatch.setattr("export.critic.write.AUTO_S", 0.0)


def saved(path: Path, make: Callable[[], nn.Module]) -> tuple[Path, nn.Module]:
    torch.manual_seed(1)
    network = make().eval()
    torch.save(network.state_dict(), path)
    return path, network


def scores_of(exported: Exported, seeds: range) -> np.ndarray[tuple[int], np.dtype[np.float32]]:
    own = OwnImages(exported.spec, open_session(exported.folder / "model.onnx"))
    inputs = {"image": own.of(seeds)}
    if exported.spec.critic is not None and exported.spec.critic.takes_label:
        inputs["label"] = own.labels(seeds)  # type: ignore[assignment]
    found: np.ndarray[tuple[int], np.dtype[np.float32]] = open_session(exported.folder / "critic.onnx").run(
        ["score"], inputs
    )[0]
    return found


def test_the_checkpoints_own_discriminator_is_exported_beside_it(
    small_dcgan: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("export.critic.write.AUTO_S", 1e6)
    _, network = saved(tmp_path / "netD.pth", lambda: critics.NatsuD(3, 4))
    both = tmp_path / "both.pth"
    torch.save({"netG": torch.load(small_dcgan), "netD": network.state_dict()}, both)
    exported = export(Request(both, tmp_path / "repository", "faces", discriminator="auto"))
    critic = exported.spec.critic
    assert critic is not None
    assert (critic.architecture, critic.takes_label, critic.images) == ("convolutional", False, 48)
    assert critic.provenance.notes[0] == "taken from key netD"
    assert sorted(exported.spec.files) == ["critic.onnx", "model.onnx"]
    verify(exported.folder, exported.spec)
    scores = scores_of(exported, range(48))
    np.testing.assert_allclose(critic.quantiles[0], np.quantile(scores.astype(float), np.linspace(0, 1, 101)))
    images = OwnImages(exported.spec, open_session(exported.folder / "model.onnx")).of(range(2))
    values = torch.from_numpy(images).permute(0, 3, 1, 2) / 127.5 - 1
    np.testing.assert_allclose(scores[:2], network(values).detach().numpy(), atol=1e-4)


def test_the_spread_of_a_batch_is_that_with_the_references_whatever_the_neighbours(
    small_dcgan: Path, tmp_path: Path
) -> None:
    path, network = saved(tmp_path / "d.pt", lambda: critics.RosinalityD((4, 6, 8)))
    exported = export(Request(small_dcgan, tmp_path / "repository", "faces", discriminator=str(path)))
    critic = exported.spec.critic
    assert critic is not None
    assert critic.reference_seeds == tuple(range(FIRST_REFERENCE, FIRST_REFERENCE + 3))
    own = OwnImages(exported.spec, open_session(exported.folder / "model.onnx"))
    batch = torch.from_numpy(np.concatenate([own.of([5]), own.of(critic.reference_seeds)]))
    expected = network(batch.permute(0, 3, 1, 2) / 127.5 - 1)[0].item()
    assert scores_of(exported, range(5, 6))[0] == pytest.approx(expected, abs=1e-4)
    assert scores_of(exported, range(4, 8))[1] == pytest.approx(expected, abs=1e-4)


def test_a_conditional_one_is_measured_by_label(small_cgan: Path, tmp_path: Path) -> None:
    path, _ = saved(tmp_path / "d.pt", lambda: critics.CganD(784, 3))
    exported = export(Request(small_cgan, tmp_path / "repository", "digits", discriminator=str(path)))
    critic = exported.spec.critic
    assert critic is not None
    assert (critic.takes_label, critic.images, len(critic.quantiles)) == (True, 16, 3)
    scores = scores_of(exported, range(48))
    assert critic.quantiles[2][-1] == pytest.approx(float(scores[2::3].max()))


def test_what_takes_too_long_is_left_out_unless_it_was_asked_for(small_dcgan: Path, tmp_path: Path) -> None:
    _, network = saved(tmp_path / "netD.pth", lambda: critics.NatsuD(3, 4))
    both = tmp_path / "both.pth"
    torch.save({"netG": torch.load(small_dcgan), "netD": network.state_dict()}, both)
    exported = export(Request(both, tmp_path / "repository", "faces", discriminator="auto"))
    assert exported.spec.critic is None
    assert "critic.onnx" not in exported.spec.files
    assert "--discriminator same or FILE takes its time" in exported.notes[-1]


def test_what_does_not_fit_is_refused_or_left_out_with_a_reason(
    small_dcgan: Path, small_srvgg: Path, tmp_path: Path
) -> None:
    large, network = saved(tmp_path / "large.pt", lambda: critics.ExamplesD(3, 4))
    both = tmp_path / "both.pth"
    torch.save({"netG": torch.load(small_dcgan), "netD": network.state_dict()}, both)
    refused = {
        (small_dcgan, "nowhere.pt"): "no such file",
        (small_dcgan, "same"): r"netG\.pth: nothing in it is called a known discriminator",
        (small_dcgan, str(small_srvgg)): "nothing in it is a known discriminator; there are perceptron",
        (small_dcgan, str(large)): r"judges images of 32x32 px, the generator's have 16x16",
        (small_srvgg, str(large)): "a discriminator judges the images of a generator",
        (both, "same"): r"judges images of 32x32 px",
    }
    for (checkpoint, option), text in refused.items():
        with pytest.raises(ExportError, match=text):
            export(Request(checkpoint, tmp_path / "repository", "faces", discriminator=option))
    with pytest.raises(ExportError, match="gives pixels from latents"):
        export(Request(small_dcgan, tmp_path / "repository", "f", tensors="float32", discriminator=str(large)))
    exported = export(Request(both, tmp_path / "repository", "faces", discriminator="auto"))
    assert exported.spec.critic is None
    assert any("no critic: convolutional discriminator: judges images of 32x32" in note for note in exported.notes)
