"""The names of devices."""

import pytest

from server.engines.base import CPU, DeviceId


def test_a_device_is_read_as_it_is_written() -> None:
    for device in (CPU, DeviceId("cuda"), DeviceId("cuda", 12)):
        assert DeviceId.parse(str(device)) == device
    assert (str(CPU), str(DeviceId("cuda"))) == ("cpu", "cuda:0")
    assert DeviceId.parse("cuda") == DeviceId("cuda", 0)


@pytest.mark.parametrize("text", ["", "gpu", "cpu:0", "cuda:", "cuda:x", "cuda:-1", "CUDA"])
def test_anything_else_is_no_device(text: str) -> None:
    with pytest.raises(ValueError, match="must be cpu, cuda or cuda:N"):
        DeviceId.parse(text)
