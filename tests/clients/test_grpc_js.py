"""gRPC for Node, with the stubs' descriptors and with protos/: unary, streams, gzip, keepalive, errors."""

import os
import shutil
import sys
from pathlib import Path

import pytest
from google.protobuf.descriptor_pb2 import FileDescriptorProto, FileDescriptorSet
from tritonclient.grpc import model_config_pb2, service_pb2

from tests.clients.conftest import output_of
from tests.conftest import REQUIRED
from tests.serving import ServerProcess

HERE = Path(__file__).parent
PROTO = HERE.parents[1] / "protos" / "ganserve" / "v1" / "images.proto"
PACKAGES = Path(sys.prefix) / "node" / "node_modules"


@pytest.fixture(scope="module")
def node() -> str:
    """The program; skips the test without it or its packages."""
    found = shutil.which("node")
    if found is None or not (PACKAGES / "@grpc").exists():
        report = pytest.fail if "npm" in REQUIRED.split(",") else pytest.skip
        report("Node or its gRPC packages not found: apt-get install --no-install-recommends npm; make node")
    return str(found)


def test_nodes_client_calls_both_services(node: str, server: ServerProcess, tmp_path: Path) -> None:
    files = FileDescriptorSet()
    for module in (model_config_pb2, service_pb2):
        files.file.append(FileDescriptorProto.FromString(module.DESCRIPTOR.serialized_pb))
    descriptors = tmp_path / "descriptors"
    descriptors.write_bytes(files.SerializeToString())
    script = str(HERE / "grpc_js.cjs")
    environment = {**os.environ, "NODE_PATH": str(PACKAGES)}
    found = output_of(node, script, server.address, str(descriptors), str(PROTO), environment=environment)
    assert found == "done\n"
