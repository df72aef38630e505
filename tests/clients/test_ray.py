"""The Ray Data source of docs/datasets.md, as it stands there. Skipped without `ray[data]`, which no extra brings."""

import re
from pathlib import Path
from typing import Any

import pytest

from ganserve import Client
from tests.serving import running

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.slow
@pytest.mark.filterwarnings("default")  # ray's own
def test_ray_data_reads_what_the_server_generates(small: Path) -> None:
    ray = pytest.importorskip("ray", reason="no ray: pip install 'ray[data]'")
    (code,) = re.findall(r"```python\n(import pyarrow.*?)```", (ROOT / "docs" / "datasets.md").read_text(), re.DOTALL)
    scope: dict[str, Any] = {}
    exec(code.rpartition("\n\n\n")[0], scope)
    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False)
    try:
        with running(small, "--device", "cpu") as server, Client(server.address) as client:
            labels = [seed % 3 for seed in range(150)]
            source = scope["Generated"]("styled", range(150), labels, server.address)
            rows = ray.data.read_datasource(source, override_num_blocks=3).take_all()
            assert sorted(row["seed"] for row in rows) == list(range(150))
            made = client.generate("styled", seeds=range(150), labels=labels)
            assert {row["seed"]: (row["label"], row["image"]) for row in rows} == {
                image.seed: (image.label, image.data) for image in made
            }
    finally:
        ray.shutdown()
