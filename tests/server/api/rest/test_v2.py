"""KServe v2 over HTTP: by tritonclient, and byte by byte."""

import asyncio
import gzip
import json
import struct
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import openapi_spec_validator
import pytest
import tritonclient.http as triton
from onnx import helper
from starlette.routing import Route
from tritonclient.utils import InferenceServerException

from server.api.rest.tensors import read_request
from server.errors import InvalidRequest
from tests.server.api.rest.conftest import client_of, error_of
from tests.server.api.test_access import write_keys
from tests.server.api.test_kserve import picture
from tests.server.api.test_strings import save
from tests.server.conftest import Running, Start, read_page

LATENT = np.random.RandomState(0).randn(3, 4).astype(np.float32)


def infer_by_tritonclient(port: int, binary_in: bool, binary_out: bool, compression: str | None) -> Any:
    client = triton.InferenceServerClient(f"127.0.0.1:{port}")
    tensor = triton.InferInput("latent", list(LATENT.shape), "FP32")
    tensor.set_data_from_numpy(LATENT, binary_data=binary_in)
    wanted = triton.InferRequestedOutput("image", binary_data=binary_out)
    answer = client.infer(
        "tiny", [tensor], outputs=[wanted], request_id="7", request_compression_algorithm=compression,
        response_compression_algorithm=compression,
    )  # fmt: skip
    assert answer.get_response()["id"] == "7"
    assert answer.get_response()["model_version"] == "1"
    return answer.as_numpy("image")


@pytest.mark.parametrize("compression", [None, "gzip", "deflate"])
@pytest.mark.parametrize("binary_in", [True, False])
@pytest.mark.parametrize("binary_out", [True, False])
async def test_tritonclient_gets_its_items(
    running: Running, binary_in: bool, binary_out: bool, compression: str | None
) -> None:
    port = running.serving.rest_port
    found = await asyncio.to_thread(infer_by_tritonclient, port, binary_in, binary_out, compression)
    np.testing.assert_array_equal(found, picture(LATENT))


def walk_by_tritonclient(port: int) -> None:
    client = triton.InferenceServerClient(f"127.0.0.1:{port}")
    assert client.is_server_live()
    assert client.get_server_metadata()["name"] == "ganserve"
    assert client.is_model_ready("tiny")
    assert not client.is_model_ready("tiny", "9")
    assert client.get_model_metadata("tiny")["inputs"] == [{"name": "latent", "datatype": "FP32", "shape": [-1, 4]}]
    config = client.get_model_config("tiny")
    assert config["max_batch_size"] == 8
    assert config["input"][0]["dims"] == [4]  # a number, although protobuf's JSON has texts
    names = {entry["name"]: entry["state"] for entry in client.get_model_repository_index()}
    assert names["tiny"] == "READY"
    assert names["engine"] == "UNAVAILABLE"
    client.unload_model("tiny")
    assert not client.is_model_ready("tiny")
    client.load_model("tiny")
    assert client.is_model_ready("tiny")
    statistics = client.get_inference_statistics("tiny", "1")["model_stats"][0]
    assert statistics["inference_stats"]["success"] == {"count": 0, "ns": 0}
    with pytest.raises(InferenceServerException, match="'none' is not"):
        client.get_model_metadata("none")


async def test_bytes_of_bodies_and_replies_and_connections_are_counted(
    running: Running, http: httpx.AsyncClient
) -> None:
    answer = await http.get("/v2")
    _, page = await asyncio.to_thread(read_page, f"http://127.0.0.1:{running.serving.http_port}/metrics")
    assert f'ganserve_sent_bytes_total{{protocol="http"}} {len(answer.content)}\n' in page
    assert 'ganserve_received_bytes_total{protocol="http"} 0\n' in page
    assert 'ganserve_connections{port="rest"} 1\n' in page
    await http.post("/v2/models/none/infer", content=b"x" * 1000)
    _, page = await asyncio.to_thread(read_page, f"http://127.0.0.1:{running.serving.http_port}/metrics")
    assert 'ganserve_received_bytes_total{protocol="http"} 1000\n' in page


async def test_tritonclient_walks_through_the_protocol(running: Running) -> None:
    await asyncio.to_thread(walk_by_tritonclient, running.serving.rest_port)


async def test_a_nested_array_is_the_tensor(http: httpx.AsyncClient) -> None:
    tensor = {"name": "latent", "datatype": "FP32", "shape": [3, 4], "data": LATENT.tolist()}
    answer = await http.post("/v2/models/tiny/infer", json={"inputs": [tensor]})
    assert answer.status_code == 200
    output = answer.json()["outputs"][0]
    assert output["shape"] == [3, 2, 2, 3]
    np.testing.assert_array_equal(np.array(output["data"]).reshape(3, 2, 2, 3), picture(LATENT))


async def test_a_raw_request_is_the_only_input(http: httpx.AsyncClient) -> None:
    answer = await http.post(
        "/v2/models/tiny/infer", content=LATENT.tobytes(), headers={"Inference-Header-Content-Length": "0"}
    )
    length = int(answer.headers["inference-header-content-length"])
    assert json.loads(answer.content[:length])["outputs"][0]["parameters"] == {"binary_data_size": 36}
    np.testing.assert_array_equal(np.frombuffer(answer.content[length:], np.uint8), picture(LATENT).ravel())


GOOD = {"name": "latent", "datatype": "FP32", "shape": [1, 4], "data": [0, 1, 2, 3]}


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"data": [0, 1, 2]}, "3 elements, shape [1, 4] needs 4"),
        ({"data": [[0, 1], [2]]}, "rows of different lengths"),
        ({"data": [0, 1, 2, "3"]}, "not FP32"),
        ({"data": [0, 1, 2, True]}, None),
        ({"data": [0, 1, 2, 1e300]}, "FP32 cannot hold"),
        ({"data": {"a": 1}}, "must be an array"),
        ({"data": None}, "has neither data"),
        ({"data": [0, 1, 2, 3], "parameters": None}, None),
        ({"datatype": "FP16"}, "JSON cannot carry FP16"),
        ({"datatype": "FLOAT"}, "'FLOAT' is unknown"),
        ({"datatype": 7}, "must be a string, got 7"),
        ({"shape": [1, -4]}, "array of sizes"),
        ({"shape": "1,4"}, "array of sizes"),
        ({"name": None}, "must be a string"),
        ({"parameters": []}, "must be an object"),
        ({"parameters": {"binary_data_size": 16}}, "data and binary_data_size"),
        ({"parameters": {"a": [1]}}, "must be a number, a string or a boolean"),
        ({"parameters": {"a" * 70_000: 1}}, "name of a parameter: a text of 70000 characters"),
        ({"name": "a" * 70_000}, "input name: a text of 70000 characters"),
        ({"dtype": "FP32"}, "unknown field 'dtype'"),
    ],
)
async def test_a_wrong_input_is_refused_by_its_name(http: httpx.AsyncClient, change: Any, text: str | None) -> None:
    answer = await http.post("/v2/models/tiny/infer", json={"inputs": [{**GOOD, **change}]})
    if text is None:  # numpy takes true for 1 among numbers; null is what a client leaves out
        assert answer.status_code == 200
        return
    assert answer.status_code == 400
    assert text in error_of(answer)


@pytest.mark.parametrize(
    ("body", "text"),
    [
        (b"{", "not JSON"),
        (b"[]", "not a JSON object"),
        (b"[" * 100_000, "not JSON"),
        (b'{"inputs": 5}', "array of objects"),
        (b'{"inputs": [], "output": []}', "unknown field 'output'"),
        (b'{"inputs": [], "model_name": "other"}', "the address names 'tiny'"),
        (b'{"id": 5, "inputs": []}', "id: must be a string"),
        (b'{"inputs": []}', "missing"),
        (b"\xff\xfe", "not JSON"),
    ],
)
async def test_a_body_that_is_no_request_is_refused(http: httpx.AsyncClient, body: bytes, text: str) -> None:
    answer = await http.post("/v2/models/tiny/infer", content=body)
    assert answer.status_code == 400
    assert text in error_of(answer)


@pytest.mark.parametrize("length", ["-1", "x", "99999", "9" * 5000, "1e2", "٣"])
async def test_a_wrong_header_length_is_refused(http: httpx.AsyncClient, length: str) -> None:
    headers = {b"Inference-Header-Content-Length": length.encode()}
    answer = await http.post("/v2/models/tiny/infer", content=b"{}", headers=headers)
    assert answer.status_code == 400
    assert "inference-header-content-length" in error_of(answer)


async def test_what_is_null_is_left_out(http: httpx.AsyncClient) -> None:
    body = {"id": None, "parameters": None, "outputs": None, "inputs": [{**GOOD, "parameters": None}]}
    answer = await http.post("/v2/models/tiny/infer", json=body, headers={"Content-Encoding": "Identity"})
    assert answer.status_code == 200, answer.text


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([(1 << 64) - 1, 5], [(1 << 64) - 1, 5]),  # numpy has no integers for both
        ([[1 << 63], [0]], [1 << 63, 0]),
        ([(1 << 64) - 1, -5], None),
        ([(1 << 64) - 1, 0.5], None),
    ],
)
def test_large_integers_are_exact(values: Any, expected: Any) -> None:
    tensor = {"name": "x", "datatype": "UINT64", "shape": [2, 1], "data": values}
    read = (json.dumps({"inputs": [tensor]}).encode(), None, "m", "", 1 << 20)
    if expected is None:
        with pytest.raises(InvalidRequest, match="not UINT64"):
            read_request(*read)
        return
    request, _ = read_request(*read)
    assert np.frombuffer(request.raw_input_contents[0], np.uint64).tolist() == expected


async def test_bytes_behind_the_inputs_are_refused(http: httpx.AsyncClient) -> None:
    tensor = {**GOOD, "parameters": {"binary_data_size": 16}}
    del tensor["data"]
    head = json.dumps({"inputs": [tensor]}).encode()
    headers = {"Inference-Header-Content-Length": str(len(head))}
    answer = await http.post("/v2/models/tiny/infer", content=head + bytes(17), headers=headers)
    assert answer.status_code == 400
    assert "1 bytes are left" in error_of(answer)
    answer = await http.post("/v2/models/tiny/infer", content=head + bytes(15), headers=headers)
    assert "binary_data_size is 16, 15 bytes are left" in error_of(answer)


async def test_unknown_addresses_and_methods_say_where_to_look(http: httpx.AsyncClient) -> None:
    answer = await http.get("/v2/model/tiny")
    assert (answer.status_code, "openapi.json" in error_of(answer)) == (404, True)
    answer = await http.get("/v2/models/tiny/infer")
    assert (answer.status_code, answer.headers["allow"]) == (405, "POST")


async def test_a_gzip_bomb_is_refused(start: Start) -> None:
    running = await start(max_message_bytes=1 << 20)
    async with client_of(running) as http:
        bomb = gzip.compress(bytes(64 << 20))
        headers = {"Content-Encoding": "gzip"}
        answer = await http.post("/v2/models/tiny/infer", content=bomb, headers=headers)
        assert answer.status_code == 400
        assert "at most 1048576 (max_message_bytes)" in error_of(answer)
        answer = await http.post("/v2/models/tiny/infer", content=bomb[:-9], headers=headers)
        assert answer.status_code == 400
        answer = await http.post("/v2/models/tiny/infer", content=b"{}", headers=headers)
        assert "is not gzip" in error_of(answer)
        answer = await http.post("/v2/models/tiny/infer", content=gzip.compress(b"{}") + bomb, headers=headers)
        assert f"{len(bomb)} bytes come after the end of the body's gzip" in error_of(answer)
        answer = await http.post("/v2/models/tiny/infer", content=b"{}", headers={"Content-Encoding": "br"})
        assert answer.status_code == 501
        answer = await http.post("/v2/models/tiny/infer", content=bytes(2 << 20))
        assert answer.status_code == 400
        many = b'{"inputs": [' + b"0," * 30_000 + b"0]}"
        assert "when they are read" in error_of(await http.post("/v2/models/tiny/infer", content=many))


async def test_a_body_that_does_not_arrive_is_given_up(start: Start) -> None:
    running = await start(message_timeout_s=0.2)
    reader, writer = await asyncio.open_connection("127.0.0.1", running.serving.rest_port)
    writer.write(b"POST /v2/models/tiny/infer HTTP/1.1\r\nHost: a\r\nContent-Length: 99\r\n\r\n{")
    answer = await asyncio.wait_for(reader.readuntil(b"}"), 30)
    assert b"message_timeout_s" in answer
    writer.close()


async def test_a_caller_without_key_is_refused(start: Start, tmp_path: Any) -> None:
    keys = write_keys(tmp_path / "keys.toml", {"me": 'roles = ["infer"]'})
    running = await start(api_keys=keys)
    async with client_of(running) as http:
        assert (await http.get("/v2/health/live")).status_code == 200
        answer = await http.post("/v2/models/tiny/infer", json={"inputs": [GOOD]})
        assert (answer.status_code, answer.headers["www-authenticate"]) == (401, "Bearer")
        key = {"Authorization": "Bearer me-secret"}
        answer = await http.post("/v2/models/tiny/infer", json={"inputs": [GOOD]}, headers=key)
        assert answer.status_code == 200
        answer = await http.post("/v2/repository/models/tiny/unload", headers=key)
        assert answer.status_code == 403


async def test_a_time_limit_of_envoy_is_kept(http: httpx.AsyncClient) -> None:
    limit = {"x-envoy-expected-rq-timeout-ms": "0"}
    answer = await http.post("/v2/models/tiny/infer", json={"inputs": [GOOD]}, headers=limit)
    assert answer.status_code == 504
    limit = {"x-envoy-expected-rq-timeout-ms": "soon"}
    answer = await http.post("/v2/models/tiny/infer", json={"inputs": [GOOD]}, headers=limit)
    assert answer.status_code == 400


async def test_requests_are_counted_and_named(running: Running, http: httpx.AsyncClient) -> None:
    answer = await http.post("/v2/models/tiny/infer", json={"inputs": [GOOD]}, headers={"x-request-id": "me-1"})
    assert answer.headers["x-request-id"] == "me-1"
    statistics = (await http.get("/v2/models/tiny/stats")).json()["model_stats"][0]
    assert statistics["inference_count"] == 1


async def test_strings_travel_in_both_forms(repository: Path, start: Start) -> None:
    save(repository, "echo", [helper.make_node("Identity", ["x"], ["y"])], "max_batch_size: 0", ["n"], ["y"])
    running = await start()
    async with client_of(running) as http:
        values = ["", "a", "zwölf €"]
        tensor: dict[str, Any] = {"name": "x", "datatype": "BYTES", "shape": [3], "data": values}
        answer = await http.post("/v2/models/echo/infer", json={"inputs": [tensor]})
        assert answer.json()["outputs"][0]["data"] == values
        packed = b"".join(struct.pack("<I", len(value.encode())) + value.encode() for value in values)
        del tensor["data"]
        head = json.dumps({"inputs": [{**tensor, "parameters": {"binary_data_size": len(packed)}}]}).encode()
        headers = {"Inference-Header-Content-Length": str(len(head))}
        answer = await http.post("/v2/models/echo/infer", content=head + packed, headers=headers)
        assert answer.json()["outputs"][0]["data"] == values


async def test_the_description_is_valid_and_has_every_address(running: Running, http: httpx.AsyncClient) -> None:
    document = (await http.get("/openapi.json")).json()
    openapi_spec_validator.validate(document)
    app: Any = running.server._rest._config.app  # type: ignore[union-attr]
    routes = {
        (route.path, verb.lower())
        for route in app.routes
        if isinstance(route, Route) and route.path != "/" and not route.path.startswith("/page/")
        for verb in (route.methods or set()) - {"HEAD"}
    }
    described = {(path, verb) for path, verbs in document["paths"].items() for verb in verbs}
    assert described == routes - {("/openapi.json", "get")}


async def test_a_client_that_leaves_ends_its_call(running: Running, http: httpx.AsyncClient) -> None:
    """The budget of memory is the witness: it is whole again."""
    body = json.dumps({"inputs": [{**GOOD, "shape": [8, 4], "data": [0] * 32}]}).encode()
    for _ in range(5):
        _, writer = await asyncio.open_connection("127.0.0.1", running.serving.rest_port)
        writer.write(b"POST /v2/models/tiny/infer HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n" % len(body) + body)
        writer.close()
    answer = await http.post("/v2/models/tiny/infer", content=body)
    assert answer.status_code == 200


async def test_the_api_port_can_be_off(start: Start) -> None:
    running = await start(rest_port=-1)
    assert running.serving.rest_port == -1
    assert (await running.readyz())[1]


async def test_the_probes_port_has_tritons_paths(running: Running) -> None:
    async with httpx.AsyncClient(base_url=running.url) as client:
        for path, ours in (("/v2/health/live", "/livez"), ("/v2/health/ready", "/readyz"), ("/metrics/", "/metrics")):
            found, expected = await client.get(path), await client.get(ours)
            assert found.status_code == expected.status_code
            assert found.content[:9] == expected.content[:9]


@pytest.mark.parametrize(
    "body", [b'{"inputs": [' + b"[" * 900 + b"]" * 900 + b"]}", b'{"id": ' + b"[" * 900 + b"]" * 900 + b"}"]
)
async def test_what_is_nested_deeply_is_refused_in_a_sentence(http: httpx.AsyncClient, body: bytes) -> None:
    answer = await http.post("/v2/models/tiny/infer", content=body)
    assert answer.status_code == 400
    assert len(error_of(answer)) < 500


async def test_lists_count_as_what_they_become(start: Start) -> None:
    running = await start(max_message_bytes=1 << 20)
    async with client_of(running) as http:
        body = b'{"inputs": [' + b",".join([b"[" * 500 + b"]" * 500] * 40) + b"]}"
        answer = await http.post("/v2/models/tiny/infer", content=body)
        assert "when they are read" in error_of(answer)


async def test_bytes_that_are_announced_hold_no_memory(running: Running, http: httpx.AsyncClient) -> None:
    _, writer = await asyncio.open_connection("127.0.0.1", running.serving.rest_port)
    writer.write(b"POST /v2/models/tiny/infer HTTP/1.1\r\nHost: a\r\nContent-Length: 200000000\r\n\r\n{")
    await writer.drain()
    answer = await http.post("/v2/models/tiny/infer", json={"inputs": [GOOD]})
    assert answer.status_code == 200
    assert running.server._budget.held_bytes == 0
    writer.close()


async def test_a_raw_request_without_a_key_learns_nothing(start: Start, tmp_path: Any) -> None:
    running = await start(api_keys=write_keys(tmp_path / "keys.toml", {"me": 'roles = ["infer"]'}))
    headers = {"Inference-Header-Content-Length": "0"}
    async with client_of(running) as http:
        for name in ("tiny", "none"):
            answer = await http.post(f"/v2/models/{name}/infer", content=bytes(16), headers=headers)
            assert answer.status_code == 401


async def test_a_raw_request_is_one_of_its_keys_quota(start: Start, tmp_path: Any) -> None:
    own = {"me": 'roles = ["infer"]\nrequests_per_minute = 4'}
    running = await start(api_keys=write_keys(tmp_path / "keys.toml", own))
    headers = {"Inference-Header-Content-Length": "0", "Authorization": "Bearer me-secret"}
    codes = []
    async with client_of(running) as http:
        for _ in range(5):
            codes.append((await http.post("/v2/models/tiny/infer", content=bytes(16), headers=headers)).status_code)
    assert codes == [200, 200, 200, 200, 429]


async def test_a_web_page_may_not_call_a_server_without_keys(http: httpx.AsyncClient) -> None:
    answer = await http.post("/v2/logging", json={"log_info": True}, headers={"Origin": "http://evil.example"})
    assert answer.status_code == 403
