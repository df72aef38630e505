"""`python -m training.metrics.graphs`: the judges' features as ONNX graphs, models/zoo/weights/*-judge.onnx."""

import json
import sys
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from models.zoo.entries import MNIST
from models.zoo.fetch import WEIGHTS
from models.zoo.judges import JUDGES
from training.metrics import judges
from training.metrics.judge import Judge
from training.metrics.judges import DigitFeatures
from training.networks.emoji_trunk import EmojiTrunk

SIDES = {"digits": (28, 1), "emoji": (32, 3)}


CLASSES = {"digits": tuple("0123456789")}


BOTH_EMOJI = "Noto Emoji, Apache-2.0, and Twemoji, CC BY 4.0"
LICENCES = {family: f"Apache-2.0 (trained on {data})" for family, data in (("digits", MNIST), ("emoji", BOTH_EMOJI))}


class OfPixels(nn.Module):
    """Features (N, K) float32 of (N, H, W, C) uint8, and scores (N, classes) if a network gives them."""

    def __init__(self, features: nn.Module, scores: nn.Module | None = None) -> None:
        super().__init__()
        self.features, self.scores = features, scores

    def forward(self, images: Tensor) -> Tensor | tuple[Tensor, Tensor]:
        values = images.permute(0, 3, 1, 2).float() / 127.5 - 1
        found: Tensor = self.features(values)
        return found if self.scores is None else (found, self.scores(values))


def networks() -> dict[str, nn.Module]:
    """The judges by family, as modules of pixels."""
    digits, emoji = Judge(), EmojiTrunk()
    digits.load_state_dict(load_file(judges.WEIGHTS / "digits_judge.safetensors"))
    emoji.load_state_dict(load_file(judges.WEIGHTS / "emoji_judge.safetensors"))
    return {"digits": OfPixels(DigitFeatures(digits), digits).eval(), "emoji": OfPixels(emoji).eval()}


def write(folder: Path) -> None:
    """Writes a graph for each."""
    for family, network in networks().items():
        side, channels = SIDES[family]
        example = torch.zeros(2, side, side, channels, dtype=torch.uint8)
        axes = ({0: torch.export.Dim("N", min=1)},)
        names = ["features", "scores"][: 2 if family in CLASSES else 1]
        program = torch.onnx.export(
            network, (example,), input_names=["image"], output_names=names, dynamic_shapes=axes, dynamo=True,
            opset_version=18, external_data=False, verbose=False,
        )  # fmt: skip
        assert program is not None
        program.optimize()
        for node in program.model.graph:
            node.metadata_props.clear()
        if family in CLASSES:  # as `ganserve export --judge` reads them
            program.model.metadata_props["classes"] = json.dumps(CLASSES[family])
        program.model.metadata_props["licence"] = LICENCES[family]
        program.save(folder / JUDGES[family], external_data=False)


if __name__ == "__main__":
    write(Path(sys.argv[1]) if len(sys.argv) > 1 else WEIGHTS)
