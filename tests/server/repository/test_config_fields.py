"""No field of config.pbtxt is ignored in silence."""

import hashlib
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from google.protobuf import text_format
from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.message import Message
from tritonclient.grpc import aio as triton
from tritonclient.grpc.model_config_pb2 import ModelConfig

from docs import triton_page
from server.errors import NotServing
from server.repository.config_fields import FIELDS, Treatment, set_fields, without_effect
from server.repository.model_config import read_config
from server.repository.model_folder import read_model
from tests.server.conftest import write_tiny
from tests.server.graphs import write_styled


def rows_of(kind: Descriptor, prefix: str = "") -> Iterator[str]:
    """The row that each field of a message belongs to, its own path if it has none."""
    for field in kind.fields:
        path = f"{prefix}{field.name}"
        if path not in FIELDS and field.message_type is not None:
            yield from rows_of(field.message_type, f"{path}.")
        else:
            yield path


def config_with(path: str) -> ModelConfig:
    """A config that sets the field, and nothing that is not above it."""
    config = ModelConfig()
    message: Message = config
    *above, last = path.split(".")
    for name in above:
        inner = getattr(message, name)
        message = inner.add() if hasattr(inner, "add") else inner
    fill(message, message.DESCRIPTOR.fields_by_name[last])
    return config


def fill(message: Any, field: Any) -> None:
    value = getattr(message, field.name)
    if field.message_type is not None and field.message_type.GetOptions().map_entry:
        values = field.message_type.fields_by_name["value"]
        key: Any = "k" if field.message_type.fields_by_name["key"].type == FieldDescriptor.TYPE_STRING else 1
        if values.message_type is not None:
            value[key].SetInParent()
        else:
            value[key] = "v"
    elif hasattr(value, "add"):
        value.add()
    elif field.message_type is not None:
        value.SetInParent()
    elif hasattr(value, "append"):
        value.append(scalar(field))
    else:
        setattr(message, field.name, scalar(field))


def scalar(field: Any) -> Any:
    if field.enum_type is not None:
        return field.enum_type.values[-1].number
    return {FieldDescriptor.CPPTYPE_STRING: "x", FieldDescriptor.CPPTYPE_BOOL: True}.get(field.cpp_type, 1)


def test_the_table_has_every_field_of_tritons_message_and_no_other() -> None:
    assert sorted(set(rows_of(ModelConfig.DESCRIPTOR))) == sorted(FIELDS)


@pytest.mark.parametrize("path", FIELDS)
def test_a_field_that_is_set_is_found(path: str) -> None:
    assert list(set_fields(config_with(path))) == [path]


@pytest.mark.parametrize("path", [path for path, field in FIELDS.items() if field.treatment is Treatment.REFUSED])
def test_a_field_that_is_refused_keeps_the_config_from_being_used(path: str, tmp_path: Path) -> None:
    (tmp_path / "config.pbtxt").write_text(text_format.MessageToString(config_with(path)))
    with pytest.raises(NotServing, match=f"config.pbtxt: {path} is not supported: {FIELDS[path].why[:20]}"):
        read_config(tmp_path)


@pytest.mark.parametrize("path", [path for path, field in FIELDS.items() if field.treatment is Treatment.NO_EFFECT])
def test_a_field_without_effect_is_named_once(path: str) -> None:
    config = config_with(path)
    config.MergeFrom(config_with(path))
    (line,) = without_effect(config)
    assert line.startswith(path)
    assert line.endswith(FIELDS[path].why)


def test_a_histogram_that_there_is_not_is_named() -> None:
    text = 'model_metrics { metric_control { metric_identifier { family: "nv_cache_hit_summary" } } }'
    (line,) = without_effect(text_format.Parse(text, ModelConfig()))
    assert line.startswith("model_metrics: 'nv_cache_hit_summary': only nv_inference_first_response_histogram_ms")


def test_a_default_priority_without_levels_is_named() -> None:
    config = text_format.Parse("dynamic_batching { default_priority_level: 1 }", ModelConfig())
    (line,) = without_effect(config)
    assert line.endswith("there are no priority_levels")


def test_versions_that_are_none_are_named() -> None:
    (line,) = without_effect(text_format.Parse("version_policy { latest { num_versions: 0 } }", ModelConfig()))
    assert line == "version_policy.latest.num_versions 0: the newest version is served"


def test_a_version_that_is_named_and_not_there_is_logged(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    write_tiny(tmp_path, "tiny")
    (tmp_path / "tiny" / "config.pbtxt").write_text("version_policy { specific { versions: [1, 3] } }")
    found = read_model(tmp_path, "tiny")
    assert found.choice.versions == [1]
    (record,) = caplog.records
    assert record.fields == {"model": "tiny", "versions": [3]}  # type: ignore[attr-defined]


def test_the_page_is_current() -> None:
    assert triton_page.main(["--check"]) == 0, "run `python -m docs.triton_page`"


def agents(**checksums: str) -> str:
    rows = "".join(f'parameters {{ key: "{key}:1/model.onnx" value: "{value}" }}' for key, value in checksums.items())
    return f'model_repository_agents {{ agents {{ name: "checksum" {rows} }} }}'


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """`good` and `tagged` can be served, the others not, by the reason in REASONS."""
    root = tmp_path / "repository"
    for name in ("good", "tagged", *REASONS):
        write_tiny(root, name)
        data = (root / name / "1" / "model.onnx").read_bytes()
        right = {"MD5": hashlib.md5(data).hexdigest(), "SHA256": hashlib.sha256(data).hexdigest().upper()}
        text = {
            "good": f"max_batch_size: 4 {agents(**right)}",
            "tagged": 'max_batch_size: 4 runtime: "x" parameters { key: "k" value {} } '
            "dynamic_batching { max_queue_delay_microseconds: 18446744073709551615 } "
            'optimization { execution_accelerators { gpu_execution_accelerator { name: "tensorrt" '
            'parameters { key: "trt_engine_cache_path" value: "/x" } } } }',
            "wrong": agents(MD5="0" * 32),
            "wrong-second": agents(MD5=right["MD5"], SHA256="0" * 64),
            "other-hash": agents(CRC="0"),
            "outside": agents(MD5=right["MD5"]).replace("1/model.onnx", "../good/1/model.onnx"),
            "absent": agents(MD5=right["MD5"]).replace("1/model.onnx", "2/model.onnx"),
            "agent": agents().replace("checksum", "decrypt"),
            "labels": 'output { name: "image" data_type: TYPE_UINT8 dims: [2, 2, 3] label_filename: "labels.txt" }',
            "optional": 'max_batch_size: 4 input { name: "latent" data_type: TYPE_FP32 dims: 4 optional: true }',
            "decoupled": "model_transaction_policy { decoupled: true }",
            "preferred": "max_batch_size: 4 dynamic_batching { preferred_batch_size: [4, 8] }",
            "unbatched": "max_batch_size: 0 dynamic_batching { preferred_batch_size: 1 }",
            "auto": "dynamic_batching { preferred_batch_size: 8 }",
            "twice": "max_batch_size: 4" + 2 * ' input { name: "latent" data_type: TYPE_FP32 dims: 4 }',
            "torn": 'max_batch_size: 4 platform: "onnxruntime_onnx" backend: "tensorrt"',
            "versions": "version_policy { specific { versions: 3 } }",
            "gpu": 'optimization { execution_accelerators { gpu_execution_accelerator { name: "gpu_io" } } }',
            "tag": 'metric_tags { key: "_x" value: "a" }',
            "kind": "max_batch_size: 4 instance_group { kind: 77 }",
            "action": "max_batch_size: 4 dynamic_batching { default_queue_policy { timeout_action: 7 } }",
            "leveled": "max_batch_size: 4 dynamic_batching { priority_levels: 1 default_priority_level: 1 "
            "priority_queue_policy { key: 1 value { timeout_action: 7 } } }",
            "sizes": f"max_batch_size: 1048576 dynamic_batching {{ preferred_batch_size: {list(range(1, 1026))} }}",
            "lowest": "max_batch_size: -2147483648",
            "below": 'max_batch_size: 4 input { name: "latent" data_type: TYPE_FP32 dims: -2 }',
            "axes": f'max_batch_size: 4 input {{ name: "latent" data_type: TYPE_FP32 dims: {[1] * 65} }}',
            "steps": 'platform: "ensemble" max_batch_size: 4 input { name: "a" data_type: TYPE_FP32 dims: 4 } '
            'output { name: "b" data_type: TYPE_UINT8 dims: [2, 2, 3] } '
            f"ensemble_scheduling {{ {20_000 * 'step {} '}}}",
            "bounds": f"model_metrics {{ {FIRST_RESPONSE.replace('BUCKETS', '2, 1')} }}",
        }[name]
        (root / name / "config.pbtxt").write_text(text)
    write_styled(root, "styled")
    return root


FIRST_RESPONSE = (
    'metric_control { metric_identifier { family: "nv_inference_first_response_histogram_ms" } '
    "histogram_options { buckets: [BUCKETS] } }"
)
REASONS = {
    "preferred": "dynamic_batching: preferred size 8 must be positive and <= max batch size 4",
    "unbatched": "dynamic_batching: preferred size 1 must be positive and <= max batch size 0",
    "auto": "dynamic_batching: preferred size 8 must be positive and <= max batch size 4",
    "twice": "input: latent, one of them more than once",
    "torn": "backend 'tensorrt' does not run platform 'onnxruntime_onnx'",
    "versions": "no version of 'versions' to serve: version_policy names others than [1]",
    "gpu": "gpu_execution_accelerator 'gpu_io' is not supported; 'tensorrt' and 'cuda' are",
    "tag": "metric_tags: '_x': names are letters, digits and underscores, and begin with no underscore",
    "kind": "config.pbtxt: instance_group.kind 77 is not supported; there are KIND_AUTO, KIND_GPU, KIND_CPU, KIND_MO",
    "action": "dynamic_batching.default_queue_policy.timeout_action 7 is not supported; there are REJECT, DELAY",
    "leveled": "dynamic_batching.priority_queue_policy.timeout_action 7 is not supported",
    "sizes": "dynamic_batching: 1025 preferred sizes; at most 1024",
    "lowest": "max_batch_size -2147483648: must be 0 to 1048576",
    "below": "tensor 'latent': dims -2: must be 1 or more, or -1 for any size",
    "axes": "tensor 'latent' has 65 dims; at most 64",
    "steps": "ensemble_scheduling has 20000 steps; at most 64",
    "bounds": "model_metrics: buckets must be at most 100 ascending numbers",
    "wrong": "checksum: 1/model.onnx has MD5",
    "wrong-second": "checksum: 1/model.onnx has SHA256",
    "other-hash": "'CRC:1/model.onnx' is not supported; MD5 and SHA256 of a file in the model's folder are",
    "outside": "'MD5:../good/1/model.onnx' is not supported",
    "absent": "checksum: 2/model.onnx cannot be read: No such file or directory",
    "agent": "model_repository_agents: 'decrypt' is not supported; 'checksum' is",
    "labels": "label_filename 'labels.txt' is not a file in the model's folder",
    "optional": "input 'latent' is optional, but has no default",
    "decoupled": "model_transaction_policy.decoupled is not supported: a graph answers each request once",
}


@pytest.mark.parametrize("frontend", ["native"])  # what is loaded is the same for both
async def test_a_config_that_cannot_be_obeyed_is_never_served(
    start: Any, repository: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING)
    running = await start()
    entries = {entry.name: entry for entry in running.server.repository.index()}
    assert {name for name, entry in entries.items() if entry.state == "READY"} == {"good", "tagged", "styled"}
    assert not {name: entries[name].reason for name, reason in REASONS.items() if reason not in entries[name].reason}
    said = [record.fields for record in caplog.records if record.message == "config.pbtxt: no effect"]  # type: ignore[attr-defined]
    assert {fields["model"] for fields in said} == {"tagged"}
    starts = ("runtime: ", "parameters (k): ", "gpu_execution_accelerator: trt_engine_cache_path: ",
              "gpu_execution_accelerator: the model runs on the CPU")  # fmt: skip
    assert sorted(fields["what"].split(": ")[0] for fields in said) == sorted(each.split(": ")[0] for each in starts)
    tensor = triton.InferInput("latent", [1, 4], "FP32")
    tensor.set_data_from_numpy(np.ones((1, 4), np.float32))
    async with triton.InferenceServerClient(running.target) as client:
        assert (await client.infer("good", [tensor])).as_numpy("image").shape == (1, 2, 2, 3)
