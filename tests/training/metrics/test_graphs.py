"""The judges' graphs in the zoo are the judges that the recipes trained."""

import numpy as np
import pytest
import torch

from ganserve.evaluation.features import Graph, open_extractor
from models.zoo.fetch import ZooError
from models.zoo.judges import JUDGES, judge_of
from training.metrics.graphs import CLASSES, SIDES, networks


@pytest.mark.parametrize("family", JUDGES)
def test_a_graph_gives_the_features_of_its_judge(family: str) -> None:
    side, channels = SIDES[family]
    images = np.random.default_rng(0).integers(0, 256, (5, side, side, channels), np.uint8)
    graph = open_extractor(judge_of(f"zoo {family}-gan: weights"), family, None)
    assert (graph.channels, graph.size) == (channels, (side, side))
    with torch.no_grad():
        found = networks()[family](torch.from_numpy(images))
    expected, *scores = found if isinstance(found, tuple) else (found,)
    np.testing.assert_allclose(graph(images), expected.numpy(), rtol=1e-4, atol=1e-4)
    assert isinstance(graph, Graph)
    assert graph.classes == CLASSES.get(family, ())
    assert graph.named == [index for each in scores for index in each.argmax(dim=1).tolist()]


@pytest.mark.parametrize("source", ["", "digits", "zoo faces: gan_face_generate", "netG.pth digits"])
def test_other_models_have_no_judge(source: str) -> None:
    with pytest.raises(ZooError, match="no judge is known"):
        judge_of(source)
