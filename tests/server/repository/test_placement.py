"""instance_group, read against the devices that a server has."""

from typing import Any

import pytest
from google.protobuf import text_format
from tritonclient.grpc.model_config_pb2 import ModelConfig

from server.engines.base import DeviceId
from server.engines.gpu_count import count_gpus
from server.errors import NotServing, StartError
from server.repository.placement import Placement, placements, remarks, usable_gpus

FOUR = (0, 1, 2, 3)


def config(groups: str) -> ModelConfig:
    return text_format.Parse(groups, ModelConfig())


def places(groups: str, gpus: tuple[int, ...]) -> list[str]:
    """Each place as `device.slot`."""
    return [f"{place.device}.{place.slot}" for place in placements(config(groups), gpus)]


@pytest.mark.parametrize(
    ("groups", "gpus", "expected"),
    [
        ("", (), ["cpu.0"]),
        ("", FOUR, ["cuda:0.0"]),
        ("", (2,), ["cuda:2.0"]),
        ("instance_group {}", (), ["cpu.0"]),
        ("instance_group {}", (0, 1), ["cuda:0.0", "cuda:1.0"]),
        ("instance_group { count: 2 }", (0,), ["cuda:0.0", "cuda:0.1"]),
        ("instance_group { gpus: [3, 1] }", FOUR, ["cuda:3.0", "cuda:1.0"]),
        ("instance_group { gpus: [3, 1] }", (), ["cpu.0"]),
        ("instance_group { kind: KIND_GPU count: 2 }", (0, 1), ["cuda:0.0", "cuda:0.1", "cuda:1.0", "cuda:1.1"]),
        ("instance_group { kind: KIND_GPU }", (2,), ["cuda:2.0"]),
        ("instance_group { kind: KIND_GPU gpus: 2 }", (2,), ["cuda:2.0"]),
        ("instance_group { kind: KIND_CPU count: 3 }", FOUR, ["cpu.0"]),
        ("instance_group { kind: KIND_CPU } instance_group { kind: KIND_CPU }", (), ["cpu.0"]),
        (
            "instance_group { kind: KIND_CPU } instance_group { gpus: 1 } instance_group { count: 2 gpus: [1, 0] }",
            FOUR,
            ["cuda:1.0", "cuda:1.1", "cuda:1.2", "cuda:0.0", "cuda:0.1", "cpu.0"],
        ),
    ],
)
def test_groups_become_places(groups: str, gpus: tuple[int, ...], expected: list[str]) -> None:
    assert places(groups, gpus) == expected


def test_a_model_without_a_config_goes_where_the_server_is() -> None:
    assert placements(None, (1,)) == (Placement(DeviceId("cuda", 1), 0),)


@pytest.mark.parametrize(
    ("group", "gpus", "reason"),
    [
        ("kind: KIND_GPU", (), r"KIND_GPU requested; this server has no GPU \(--device\)"),
        ("kind: KIND_GPU gpus: 3", (), r"gpus 3 requested; this server has no GPU"),
        ("kind: KIND_GPU gpus: [0, 3]", (0, 1), r"gpus 3 requested; this server has cuda:0, cuda:1 \(--device\)"),
        ("gpus: 0", (1,), r"gpus 0 requested; this server has cuda:1 \(--device\)"),
        ("kind: KIND_MODEL", (0,), "KIND_MODEL is not supported; KIND_AUTO, KIND_GPU and KIND_CPU are"),
        ("kind: KIND_CPU gpus: 0", (0,), r"KIND_CPU with gpus \[0\]"),
        ("count: -1", (), "count -1: must be 1 or more"),
        ("count: 90 gpus: [1, 0, 1, 1]", (0, 1), "270 instances on cuda:1; at most 256"),
    ],
)
def test_what_cannot_be_had_is_refused_with_the_reason(group: str, gpus: tuple[int, ...], reason: str) -> None:
    for read in (placements, lambda *given: list(remarks(*given))):  # whichever comes first
        with pytest.raises(NotServing, match=f"config.pbtxt: instance_group: .*{reason}"):
            read(config(f"instance_group {{ {group} }}"), gpus)


def test_a_count_that_has_no_effect_is_said() -> None:
    groups = """
        instance_group { kind: KIND_CPU count: 4 }
        instance_group { kind: KIND_GPU count: 2 }
    """
    (found,) = remarks(config(groups), (0,))
    assert found.startswith("instance_group.count 4 on the CPU")
    assert list(remarks(None, ())) == []
    (found,) = remarks(config("instance_group { kind: KIND_CPU } instance_group {}"), ())
    assert found.startswith("instance_group.count 2 on the CPU"), "groups add up"


def test_an_accelerator_of_gpus_that_has_no_effect_is_said() -> None:
    asked = config('optimization { execution_accelerators { gpu_execution_accelerator { name: "tensorrt" } } }')
    assert list(remarks(asked, (0,))) == []
    assert list(remarks(asked, ())) == ["gpu_execution_accelerator: the model runs on the CPU"]


@pytest.mark.parametrize(
    ("asked", "present", "expected"),
    [
        ("cpu", 4, ()),
        ("cuda", 2, (0, 1)),
        ("cuda:1", 2, (1,)),
    ],
)
def test_the_device_setting_chooses_the_gpus(asked: str, present: int, expected: tuple[int, ...]) -> None:
    assert usable_gpus(asked, lambda: present, has_tensorrt=True) == expected


def test_auto_is_the_gpus_that_onnx_runtime_can_use(monkeypatch: pytest.MonkeyPatch) -> None:
    assert usable_gpus("auto", lambda: 2, has_tensorrt=True) == (), "TensorRT alone is for those who request a GPU"
    monkeypatch.setattr("server.repository.placement.has_cuda", lambda: True)
    assert usable_gpus("auto", lambda: 2) == (0, 1)
    assert usable_gpus("auto", lambda: 0) == ()
    assert usable_gpus("auto", lambda: 2, engine="openvino") == (), "it runs on the CPU"


def test_a_gpu_that_nothing_installed_can_use_is_a_start_error() -> None:
    reason = "device cuda:1: .* no CUDAExecutionProvider, and TensorRT is not installed; install"
    with pytest.raises(StartError, match=reason):
        usable_gpus("cuda:1", lambda: 2, has_tensorrt=False)


@pytest.mark.parametrize(("asked", "present"), [("cuda", 0), ("cuda:2", 2)])
def test_a_gpu_that_is_not_there_is_a_start_error(asked: str, present: int) -> None:
    with pytest.raises(StartError, match=f"device {asked}: CUDA lists {present} GPUs"):
        usable_gpus(asked, lambda: present, has_tensorrt=True)


class FakeDriver:
    """libcuda's two functions. `broken`: the number of the error that cuInit returns."""

    def __init__(self, gpus: int, broken: int = 0) -> None:
        self._gpus = gpus
        self._broken = broken

    def cuInit(self, flags: int) -> int:
        assert flags == 0
        return self._broken

    def cuDeviceGetCount(self, count: Any) -> int:
        count._obj.value = self._gpus
        return 0


def test_gpus_are_counted_by_the_driver() -> None:
    assert count_gpus(lambda name: FakeDriver(3)) == 3
    assert count_gpus(lambda name: FakeDriver(3, broken=100)) == 0, "a driver without a GPU"


def test_without_a_driver_there_is_no_gpu() -> None:
    def absent(name: str) -> Any:
        raise OSError(f"{name}: cannot open shared object file")

    assert count_gpus(absent) == 0
