"""The judges' graphs in the zoo are the judges that the recipes trained."""

import numpy as np
import pytest
import torch

from ganserve.evaluation.features import open_extractor
from models.zoo.fetch import ZooError
from models.zoo.judges import JUDGES, judge_of
from training.metrics.graphs import SIDES, networks


@pytest.mark.parametrize("family", JUDGES)
def test_a_graph_gives_the_features_of_its_judge(family: str) -> None:
    side, channels = SIDES[family]
    images = np.random.default_rng(0).integers(0, 256, (5, side, side, channels), np.uint8)
    graph = open_extractor(judge_of(f"zoo {family}-gan: weights"), family, None)
    assert (graph.channels, graph.size) == (channels, (side, side))
    with torch.no_grad():
        expected = networks()[family](torch.from_numpy(images)).numpy()
    np.testing.assert_allclose(graph(images), expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("source", ["", "digits", "zoo faces: gan_face_generate", "netG.pth digits"])
def test_other_models_have_no_judge(source: str) -> None:
    with pytest.raises(ZooError, match="no judge is known"):
        judge_of(source)
