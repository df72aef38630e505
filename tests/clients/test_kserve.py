"""KServe's own Python client. In a process of its own: it imports Kubernetes' client, pandas and FastAPI."""

import sys

from tests.clients.conftest import output_of
from tests.serving import ServerProcess

CLIENT = """
import asyncio, sys
import numpy as np
from kserve import InferenceGRPCClient, InferenceRESTClient, InferInput, InferRequest, RESTConfig

grpc_address, url = sys.argv[1:]
LATENT = np.random.RandomState(0).randn(3, 4).astype(np.float32)
WEIGHT = np.arange(48, dtype=np.float32).reshape(4, 12)
EXPECTED = np.clip(LATENT @ WEIGHT, 0, 255).astype(np.uint8).reshape(3, 2, 2, 3)

def request(binary):
    latent = InferInput("latent", [3, 4], "FP32")
    latent.set_data_from_numpy(LATENT, binary_data=binary)
    return InferRequest(model_name="tiny", infer_inputs=[latent], request_id="7")

def check(answer):
    assert (answer.model_name, answer.id) == ("tiny", "7"), answer
    found = answer.outputs[0].as_numpy()
    assert found.dtype == np.uint8
    np.testing.assert_array_equal(found, EXPECTED)

async def main():
    rest = InferenceRESTClient(RESTConfig(protocol="v2"))
    assert await rest.is_server_live(url)
    assert await rest.is_server_ready(url)
    assert await rest.is_model_ready(url, "tiny")
    assert not await rest.is_model_ready(url, "nobody")
    for binary in (True, False):
        check(await rest.infer(url, request(binary), model_name="tiny"))
    await rest.close()
    client = InferenceGRPCClient(grpc_address)
    assert await client.is_server_live()
    assert await client.is_server_ready()
    assert await client.is_model_ready("tiny")
    assert not await client.is_model_ready("nobody")
    for binary in (True, False):
        check(await client.infer(request(binary)))
    await client.close()
    print("done")

asyncio.run(main())
"""


def test_kserves_client_calls_both_protocols(server: ServerProcess) -> None:
    url = f"http://127.0.0.1:{server.ready['rest_port']}"
    assert output_of(sys.executable, "-c", CLIENT, server.address, url) == "done\n"
