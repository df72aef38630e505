"""`--model-config-name`: a model is served by configs/NAME.pbtxt if it has that."""

from pathlib import Path

import pytest
from tritonclient.grpc import aio as triton

from server.environment import read_settings
from server.errors import StartError
from tests.server.conftest import Start

pytestmark = pytest.mark.parametrize("frontend", ["native"])  # what is loaded is the same for both


def write(repository: Path, name: str, config: str, text: str) -> None:
    folder = repository / name / "configs"
    folder.mkdir(exist_ok=True)
    (folder / f"{config}.pbtxt").write_text(text)


async def test_the_named_config_serves_where_there_is_one(start: Start, repository: Path) -> None:
    write(repository, "tiny", "small", "max_batch_size: 2")
    write(repository, "auto", "large", "max_batch_size: 64")
    write(repository, "single", "small", "max_batch_size: x")
    running = await start(model_config_name="small")
    found = running.server.repository
    assert (found.get("tiny").max_batch_size, found.get("auto").max_batch_size) == (2, 4)
    reasons = {entry.name: entry.reason for entry in found.index() if entry.failed}
    assert "Couldn't parse integer: x" in reasons["single"]
    async with triton.InferenceServerClient(running.target) as client:
        write(repository, "tiny", "small", "max_batch_size: 3")
        await client.load_model("tiny")
        assert (await client.get_model_config("tiny")).config.max_batch_size == 3


async def test_without_the_setting_it_is_not_read(start: Start, repository: Path) -> None:
    write(repository, "tiny", "small", "max_batch_size: 2")
    running = await start()
    assert running.server.repository.get("tiny").max_batch_size == 8


@pytest.mark.parametrize("name", ["", "../x", "a/b", ".x", "a\nb"])
def test_a_name_that_leads_elsewhere_is_refused(frontend: str, name: str) -> None:
    with pytest.raises(StartError, match="model_config_name"):
        read_settings(repository=".", model_config_name=name)
