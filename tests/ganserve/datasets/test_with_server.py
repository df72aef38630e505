"""`ganserve dataset` with a real server: its images, its refusals, and the graph that it says it has."""

import hashlib
import io
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ganserve import Client
from ganserve.cli.main import main
from tests.server.graphs import add_critic, write_styled
from tests.serving import running


def check_best_of(model: list[str], server: list[str], out: Path, client: Client) -> None:
    """Of three candidates each, the best; with the seed that makes it again."""
    assert main([*model, "--out", str(out), *server, "--per-class", "0-2=4", "--best-of", "3", "--in-flight", "8"]) == 0
    assert json.loads((out / "manifest.json").read_text())["parameters"] == {"best_of": 3}
    (listed,) = out.glob("*.jsonl")
    for index, line in enumerate(map(json.loads, listed.read_text().splitlines())):
        assert Path(line["file"]).stem == f"{index:08d}"
        seeds = [(index + number * 2654435769) % 2**32 for number in range(3)]
        candidates = client.generate("styled", seeds=seeds, labels=line["label"], format="png", best_of=1)
        best = max(candidates, key=lambda image: image.choice.score if image.choice else 0)
        assert (line["seed"], line["score"]) == (best.seed, best.choice and best.choice.score)
        np.testing.assert_array_equal(np.asarray(Image.open(out / line["file"])), best.array.squeeze(2))


@pytest.mark.slow
def test_its_images_are_those_of_their_seeds_and_labels(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    spec = write_styled(tmp_path / "repository", "styled")
    add_critic(tmp_path / "repository", "styled", spec, ((0, 50, 100, 150, 255),) * 3)
    out = tmp_path / "set"
    with running(tmp_path / "repository", "--device", "cpu") as server, Client(server.address) as client:
        run = ["dataset", "styled", "--out", str(out), "--server", server.address, "--truncation", "0.5"]
        assert main([*run, "--per-class", "two=30,0=50", "--shards", "3"]) == 0
        lines = [json.loads(line) for path in sorted(out.glob("*.jsonl")) for line in path.read_text().splitlines()]
        seeds, labels = [line["seed"] for line in lines], [line["label"] for line in lines]
        assert (seeds, sorted(labels)) == (list(range(80)), [0] * 50 + [1] * 30)
        made = client.generate("styled", seeds=seeds, labels=labels, truncation=0.5, format="raw")
        for line, image in zip(lines, made, strict=True):
            data = (out / line["file"]).read_bytes()
            found = np.asarray(Image.open(io.BytesIO(data)))
            np.testing.assert_array_equal(found.reshape(image.array.shape), image.array)
        manifest = json.loads((out / "manifest.json").read_text())
        graph = (tmp_path / "repository" / "styled" / "1" / "model.onnx").read_bytes()
        assert manifest["model"]["sha256"] == hashlib.sha256(graph).hexdigest() == client.models()[0].sha256
        check_best_of(run[:2], run[4:6], tmp_path / "best", client)
        assert main([*run[:2], "--out", str(tmp_path / "b"), *run[4:6], "--count", "3", "--truncation", "99"]) == 7
        assert "truncation" in capsys.readouterr().err
        assert not (tmp_path / "b").exists()
