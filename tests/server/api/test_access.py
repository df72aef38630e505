"""Who may call what, over real sockets: API keys with roles and quotas, restricted groups of RPCs, control calls."""

import asyncio
import hashlib
import logging
import os
import socket
import urllib.error
import urllib.request
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc
from tritonclient.grpc import service_pb2 as pb
from tritonclient.grpc import service_pb2_grpc

from ganserve import AccessDenied, AsyncClient
from ganserve.v1 import images_pb2, images_pb2_grpc
from server.api import access, keys, kserve
from server.errors import StartError
from tests.server.conftest import Running, Start
from tests.server.test_app import infer_request

Code = grpc.StatusCode
KEYS = {
    "web": 'roles = ["infer"]',
    "ops": 'roles = ["control"]',
    "scraper": 'roles = ["metrics"]',
    "small": 'roles = ["infer"]\nimages_per_minute = 5',
    "sharp": 'roles = ["infer"]\npixels_per_minute = 9',
    "slow": 'roles = ["infer"]\nrequests_per_minute = 2',
}


def write(path: Path, text: str) -> Path:
    path.write_text(text)
    return path


def write_keys(path: Path, entries: dict[str, str]) -> Path:
    """A file with a key `NAME-secret` for each name."""
    digests = {name: hashlib.sha256(f"{name}-secret".encode()).hexdigest() for name in entries}
    return write(path, "".join(f'[{name}]\nsha256 = "{digests[name]}"\n{rest}\n' for name, rest in entries.items()))


@pytest.fixture
def key_file(tmp_path: Path) -> Path:
    return write_keys(tmp_path / "keys.toml", KEYS)


def bearer(name: str) -> tuple[tuple[str, str], ...]:
    return (("authorization", f"Bearer {name}-secret"),)


@asynccontextmanager
async def stub_of(running: Running) -> AsyncIterator[Any]:
    async with grpc.aio.insecure_channel(running.target) as channel:
        yield service_pb2_grpc.GRPCInferenceServiceStub(channel)


async def refusal(call: Any) -> tuple[Code, str, dict[str, Any]]:
    """Status, text and trailing metadata of a call that must fail."""
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call
    return caught.value.code(), caught.value.details() or "", dict(caught.value.trailing_metadata())


def is_open(host: str, port: int) -> bool:
    with socket.socket() as connection:
        return connection.connect_ex((host, port)) == 0


async def test_a_plain_server_is_on_loopback_alone_without_model_control_and_says_so(
    start: Start, repository: Path, key_file: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "server")
    running = await start(host=None, model_control=None)
    serving = running.serving
    assert serving.exposed == access.Exposed("127.0.0.1", "off", 0, model_control=False)
    assert str(serving.exposed) == "no TLS, no API keys, model control off"
    (line,) = [record.fields for record in caplog.records if record.message == "listening"]  # type: ignore[attr-defined]
    assert (line["address"], line["tls"], line["api_keys"], line["model_control"]) == ("127.0.0.1", "off", 0, False)
    for port in (serving.grpc_port, serving.http_port):
        assert (is_open("127.0.0.1", port), is_open("127.0.0.2", port)) == (True, False)
    with_keys = (await start(host=None, api_keys=key_file)).serving
    assert str(with_keys.exposed) == "no TLS, 6 API keys, model control on"
    assert is_open("127.0.0.2", with_keys.grpc_port), "every address"
    assert "API keys are sent unencrypted" in caplog.text
    assert (await start(host="127.0.0.1", api_keys=key_file)).serving.exposed.address == "127.0.0.1"


async def test_without_a_key_nothing_but_health_is_answered(start: Start, key_file: Path) -> None:
    running = await start(api_keys=key_file)
    async with grpc.aio.insecure_channel(running.target) as channel:
        stub = service_pb2_grpc.GRPCInferenceServiceStub(channel)
        images = images_pb2_grpc.ImageServiceStub(channel)
        for call in (
            stub.ModelInfer(infer_request()),
            stub.ServerMetadata(pb.ServerMetadataRequest()),
            stub.RepositoryModelUnload(pb.RepositoryModelUnloadRequest(model_name="tiny")),
            stub.ModelInfer(infer_request(), metadata=(("authorization", "Bearer web-secre"),)),
            stub.ModelInfer(infer_request(), metadata=(("authorization", "Basic web-secret"),)),
            images.ListModels(images_pb2.ListModelsRequest()),
            images.Generate(images_pb2.GenerateRequest(model="tiny", count=1)),
        ):
            assert (await refusal(call))[0] is Code.UNAUTHENTICATED
        stream = images.GenerateStream(images_pb2.GenerateRequest(model="tiny", count=1))
        assert await stream.code() is Code.UNAUTHENTICATED
        infers = stub.ModelStreamInfer(iter([infer_request()]))
        assert await infers.code() is Code.UNAUTHENTICATED
        listing = reflection_pb2_grpc.ServerReflectionStub(channel).ServerReflectionInfo(
            iter([reflection_pb2.ServerReflectionRequest(list_services="")])
        )
        assert await listing.code() is Code.UNAUTHENTICATED
        health = health_pb2_grpc.HealthStub(channel)
        assert (await health.Check(health_pb2.HealthCheckRequest(service="tiny"))).status == 1
        assert (await stub.ServerLive(pb.ServerLiveRequest())).live
        await stub.ServerReady(pb.ServerReadyRequest())
        assert (await stub.ModelReady(pb.ModelReadyRequest(name="tiny"))).ready


async def test_a_key_may_do_what_its_roles_say(start: Start, key_file: Path) -> None:
    running = await start(api_keys=key_file)
    unload = pb.RepositoryModelUnloadRequest(model_name="auto")
    async with stub_of(running) as stub:
        assert await stub.ModelInfer(infer_request(), metadata=bearer("web"))
        stream = stub.ModelStreamInfer(iter([infer_request()]), metadata=bearer("web"))
        assert (await stream.read()).infer_response.model_name == "tiny"
        code, text, _ = await refusal(stub.RepositoryModelUnload(unload, metadata=bearer("web")))
        assert (code, text) == (Code.PERMISSION_DENIED, "key 'web' lacks the role control; it has infer")
        assert (await refusal(stub.ModelInfer(infer_request(), metadata=bearer("ops"))))[0] is Code.PERMISSION_DENIED
        await stub.RepositoryModelUnload(unload, metadata=bearer("ops"))
        for name in ("web", "ops", "scraper"):
            assert await stub.ServerMetadata(pb.ServerMetadataRequest(), metadata=bearer(name))


async def test_the_client_sends_its_key(start: Start, key_file: Path) -> None:
    running = await start(api_keys=key_file)
    async with AsyncClient(running.target, api_key="web-secret") as client:
        assert {model.name for model in await client.models()} >= {"tiny", "auto"}
    async with AsyncClient(running.target) as client:
        with pytest.raises(AccessDenied, match="needs an API key"):
            await client.models()


def http_status(url: str, authorization: str | None = None) -> int:
    headers = {} if authorization is None else {"Authorization": authorization}
    try:
        with urllib.request.urlopen(urllib.request.Request(url, headers=headers)) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as error:
        with error:
            return error.code if error.headers["WWW-Authenticate"] == ("Bearer" if error.code == 401 else None) else 0


async def test_metrics_need_a_key_of_that_role_and_probes_none(start: Start, key_file: Path) -> None:
    running = await start(api_keys=key_file)

    async def status(path: str, authorization: str | None = None) -> int:
        return await asyncio.to_thread(http_status, f"{running.url}{path}", authorization)

    assert await status("/livez") == 200
    assert await status("/readyz") in (200, 503)
    assert await status("/metrics") == 401
    assert await status("/metrics", "Bearer nobody") == 401
    assert await status("/metrics", "Bearer web-secret") == 403
    assert await status("/metrics", "Bearer scraper-secret") == 200


async def test_a_quota_of_images_or_pixels_refuses_with_the_time_to_wait(
    start: Start, key_file: Path, frontend: str
) -> None:
    running = await start(api_keys=key_file)
    five = pb.ModelInferRequest(
        model_name="tiny",
        inputs=[{"name": "latent", "datatype": "FP32", "shape": [5, 4]}],
        raw_input_contents=[bytes(5 * 16)],
    )
    async with stub_of(running) as stub:
        await stub.ModelInfer(five, metadata=bearer("small"))
        code, text, trailers = await refusal(stub.ModelInfer(infer_request(), metadata=bearer("small")))
        assert code is Code.RESOURCE_EXHAUSTED
        assert "the quota of key 'small' is 5 images per minute (images_per_minute)" in text
        wait_s = float(text.rpartition("try again in ")[2].removesuffix(" s"))
        assert 10 < wait_s <= 12, "a fifth of a minute"
        if frontend == "grpcio":
            assert abs(int(trailers["grpc-retry-pushback-ms"]) - wait_s * 1000) < 100
        assert await stub.ModelInfer(infer_request(), metadata=bearer("web")), "another key has its own"
        assert await stub.ModelInfer(infer_request(), metadata=bearer("sharp")), "4 of its 9 pixels"
        assert await stub.ModelInfer(infer_request(), metadata=bearer("sharp"))
        code, text, _ = await refusal(stub.ModelInfer(infer_request(), metadata=bearer("sharp")))
        assert (code, "9 pixels per minute" in text) == (Code.RESOURCE_EXHAUSTED, True)
        code, text, _ = await refusal(stub.ModelInfer(five, metadata=bearer("sharp")))
        assert (code, "20 pixels in one request" in text) == (Code.INVALID_ARGUMENT, True), "it would never fit"


async def test_a_quota_of_requests_counts_calls_and_each_message_of_a_stream(start: Start, key_file: Path) -> None:
    running = await start(api_keys=key_file)
    async with stub_of(running) as stub:
        stream = stub.ModelStreamInfer(iter([infer_request()] * 3), metadata=bearer("slow"))
        answers = [answer async for answer in stream]
        assert [answer.error_message.partition(" (")[0] for answer in answers] == [
            "",
            *["the quota of key 'slow' is 2 requests per minute"] * 2,
        ]
        assert (await refusal(stub.ServerMetadata(pb.ServerMetadataRequest(), metadata=bearer("slow"))))[
            0
        ] is Code.RESOURCE_EXHAUSTED


async def test_a_stream_ends_with_its_key_and_follows_its_quotas(
    start: Start, key_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(keys, "LOOK_S", 0.0)
    running = await start(api_keys=key_file)
    others = {"slow": KEYS["slow"]}
    async with stub_of(running) as stub:

        async def error(stream: Any) -> str:
            await stream.write(infer_request())
            return str((await stream.read()).error_message)

        for rest, code, text in (
            ({"web": 'roles = ["control"]'}, Code.PERMISSION_DENIED, "key 'web' lacks the role infer; it has control"),
            ({}, Code.UNAUTHENTICATED, "key 'web' is no longer known"),
        ):
            write_keys(key_file, KEYS)
            stream = stub.ModelStreamInfer(metadata=bearer("web"))
            assert not await error(stream)
            write_keys(key_file, others | {"web": 'roles = ["infer"]\npixels_per_minute = 1'})
            assert "1 pixels per minute" in await error(stream), "the stream goes on"
            write_keys(key_file, others | rest)
            await stream.write(infer_request())
            assert (await stream.code(), await stream.details()) == (code, text)


async def test_a_key_that_is_renamed_or_back_is_the_same_one_for_streams_and_quotas(
    start: Start, key_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(keys, "LOOK_S", 0.0)
    running = await start(api_keys=key_file)
    async with stub_of(running) as stub:
        stream = stub.ModelStreamInfer(metadata=bearer("slow"))
        await stream.write(infer_request())
        assert not (await stream.read()).error_message
        write_keys(key_file, {"web": KEYS["web"]})
        assert (await refusal(stub.ModelInfer(infer_request(), metadata=bearer("slow"))))[0] is Code.UNAUTHENTICATED
        write_keys(key_file, {"slow": KEYS["slow"]})
        text = await asyncio.to_thread(key_file.read_text)
        write(key_file, text.replace("[slow]", "[renamed]"))
        await stream.write(infer_request())
        assert "the quota of key 'renamed' is 2 requests per minute" in (await stream.read()).error_message
        stream.cancel()


def test_only_so_many_keys_are_remembered_that_the_file_has_no_more(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(keys, "LOOK_S", 0.0)
    monkeypatch.setattr(keys, "MAX_GONE", 2)
    path = write_keys(tmp_path / "keys.toml", {"key0": KEYS["web"]})
    file = keys.KeyFile(path)
    callers = [file.find("Bearer key0-secret")]
    for number in range(1, 4):
        write_keys(path, {f"key{number}": KEYS["web"] + f"\n# {'-' * number}"})
        callers.append(file.find(f"Bearer key{number}-secret"))
    write_keys(path, {f"key{number}": KEYS["web"] for number in range(4)})
    found = [file.find(f"Bearer key{number}-secret") for number in range(4)]
    assert [one is other for one, other in zip(callers, found, strict=True)] == [False, True, True, True]


async def test_the_file_is_read_again_when_it_changes_and_a_bad_one_changes_nothing(
    start: Start, key_file: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(keys, "LOOK_S", 0.0)
    running = await start(api_keys=key_file)
    async with stub_of(running) as stub:

        async def code(name: str) -> Code | None:
            try:
                await stub.ServerMetadata(pb.ServerMetadataRequest(), metadata=bearer(name))
            except grpc.aio.AioRpcError as error:
                return error.code()
            return None

        assert [await code("slow"), await code("slow"), await code("slow")] == [None, None, Code.RESOURCE_EXHAUSTED]
        write_keys(key_file, {"new": 'roles = ["infer"]', "slow": KEYS["slow"]})
        assert [await code("new"), await code("web")] == [None, Code.UNAUTHENTICATED]
        assert await code("slow") is Code.RESOURCE_EXHAUSTED, "what it used stays used"
        write(key_file, "[new]\nsha256 = 1\n")
        assert await code("new") is None
        for odd in ("a = " + "[" * 10_000, "\0", ""):
            write(key_file, odd)
            assert await code("new") is None
        os.unlink(key_file)  # noqa: PTH108
        os.mkfifo(key_file)
        assert await code("new") is None
        os.unlink(key_file)  # noqa: PTH108
        assert await code("new") is None
        problems = [record for record in caplog.records if record.message.startswith("API keys not read")]
        assert len(problems) == 6
        write_keys(key_file, {"web": KEYS["web"]})
        assert [await code("new"), await code("web")] == [Code.UNAUTHENTICATED, None]


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", "has no key"),
        ("[a", "is not TOML"),
        ("a = 1", "'a': "),
        ('[a]\nsha256 = "secret"\nroles = ["infer"]', "'a': sha256: String should match"),
        (f'[a]\nsha256 = "{"0" * 64}"\nroles = []', "'a': roles"),
        (f'[a]\nsha256 = "{"0" * 64}"\nroles = ["admin"]', "'a': roles.*'infer', 'control' or 'metrics'"),
        (f'[a]\nsha256 = "{"0" * 64}"\nroles = ["infer"]\nimages = 4', "'a': images: Extra inputs"),
        (f'[a]\nsha256 = "{"0" * 64}"\nroles = ["infer"]\nimages_per_minute = 0', "'a': images_per_minute"),
        (f'["key:a b"]\nsha256 = "{"0" * 64}"\nroles = ["infer"]', "a name is"),
        (f'[a]\nsha256 = "{"0" * 64}"\nroles = ["infer"]\n[b]\nsha256 = "{"0" * 64}"\nroles = ["infer"]', "two names"),
    ],
)
def test_a_file_that_is_wrong_is_refused_at_start_with_the_place(text: str, problem: str, tmp_path: Path) -> None:
    path = tmp_path / "keys.toml"
    path.write_text(text)
    with pytest.raises(StartError, match=rf"api_keys: .*keys.toml.*{problem}") as caught:
        keys.KeyFile(path)
    assert "\n" not in str(caught.value)


def test_a_file_that_is_not_there_is_refused_at_start(tmp_path: Path) -> None:
    with pytest.raises(StartError, match=r"keys\.toml: No such file"):
        keys.KeyFile(tmp_path / "keys.toml")


async def test_a_key_is_the_client_that_is_served_fairly_and_that_the_log_names(
    start: Start, key_file: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "server")
    running = await start(api_keys=key_file, shared_memory=True)
    async with stub_of(running) as stub:
        await stub.RepositoryModelUnload(pb.RepositoryModelUnloadRequest(model_name="tiny"), metadata=bearer("ops"))
        await refusal(
            stub.RepositoryModelLoad(pb.RepositoryModelLoadRequest(model_name="none"), metadata=bearer("ops"))
        )
        await refusal(
            stub.RepositoryModelLoad(pb.RepositoryModelLoadRequest(model_name="tiny"), metadata=bearer("web"))
        )
        long = pb.LogSettingsRequest(settings={"log_file": {"string_param": "x" * 20_000}, "y" * 20_000: {}})
        await refusal(stub.LogSettings(long, metadata=bearer("web")))
        everything = pb.SystemSharedMemoryUnregisterRequest()
        await stub.SystemSharedMemoryUnregister(everything, metadata=bearer("web"))
    records: list[Any] = [record for record in caplog.records if record.message == "control"]
    lines = [record.fields for record in records]
    assert [record.unlimited for record in records] == [True, False, False, False, False]
    assert lines[3]["settings"] == "log_file, 1 unknown", "nothing of their length"
    assert [(line["rpc"], line.get("model"), line["client"], line["code"]) for line in lines] == [
        ("RepositoryModelUnload", "tiny", "key:ops", "OK"),
        ("RepositoryModelLoad", "none", "key:ops", "NOT_FOUND"),
        ("RepositoryModelLoad", "tiny", "key:web", "PERMISSION_DENIED"),
        ("LogSettings", None, "key:web", "PERMISSION_DENIED"),
        ("SystemSharedMemoryUnregister", None, "key:web", "OK"),
    ]
    assert all(line["peer"].startswith("ipv4:127.0.0.1:") for line in lines)


async def test_a_control_call_without_keys_is_logged_with_its_peer(
    start: Start, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "server")
    running = await start(model_control="none")
    async with stub_of(running) as stub:
        code, text, _ = await refusal(stub.RepositoryModelUnload(pb.RepositoryModelUnloadRequest(model_name="tiny")))
    assert (code, "explicit turns it on" in text) == (Code.UNAVAILABLE, True)
    (line,) = [record.fields for record in caplog.records if record.message == "control"]  # type: ignore[attr-defined]
    assert (line["code"], line["error"]) == ("UNAVAILABLE", text)
    assert line["client"].startswith("ipv4:127.0.0.1:")


def posted(running: Running, path: str, body: str) -> int:
    request = urllib.request.Request(f"http://127.0.0.1:{running.serving.rest_port}{path}", body.encode())
    try:
        with urllib.request.urlopen(request) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as error:
        with error:
            return error.code


async def test_what_changes_the_server_for_others_is_logged_over_grpc_and_http_at_every_level(
    start: Start, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)  # and back to what it was
    running = await start()
    quiet = pb.LogSettingsRequest()
    for name in ("log_info", "log_warning"):
        quiet.settings[name].bool_param = False
    async with stub_of(running) as stub:
        await stub.LogSettings(pb.LogSettingsRequest())
        await stub.LogSettings(quiet)
        await refusal(stub.SystemSharedMemoryRegister(pb.SystemSharedMemoryRegisterRequest(name="r", key="/k")))
    codes = [
        await asyncio.to_thread(posted, running, path, body)
        for path, body in (
            ("/v2/repository/models/auto/unload", "{}"),
            ("/v2/models/tiny/trace/setting", '{"trace_rate": ["5"]}'),
            ("/v2/cudasharedmemory/unregister", ""),
            ("/v2/repository/models/auto/load", "{no JSON"),
        )
    ]
    assert codes == [200, 501, 501, 400]
    lines = [record.fields for record in caplog.records if record.message == "control"]  # type: ignore[attr-defined]
    for line in lines:
        if "region" in line:
            line["region"] = str(line["region"])
    settings = "log_info: bool_param: false, log_warning: bool_param: false"
    assert sorted((line["rpc"], line.get("model"), line.get("region"), line["code"]) for line in lines[1:]) == [
        ("CudaSharedMemoryUnregister", None, "", "UNIMPLEMENTED"),
        ("RepositoryModelLoad", None, None, "INVALID_ARGUMENT"),
        ("RepositoryModelUnload", "auto", None, "OK"),
        ("SystemSharedMemoryRegister", None, "r", "UNIMPLEMENTED"),
        ("TraceSetting", "tiny", None, "UNIMPLEMENTED"),
    ]
    assert (lines[0]["rpc"], ", ".join(sorted(lines[0]["settings"].split(", ")))) == ("LogSettings", settings)
    assert [line["client"].split(":")[0] for line in lines] == ["ipv4", "ipv4", "http", "http", "http", "http"]


async def test_the_own_health_service_of_grpc_belongs_to_the_group_health_as_in_triton(start: Start) -> None:
    running = await start(grpc_restricted_protocol="health:probe=x")
    header = (("triton-grpc-protocol-probe", "x"),)
    request = health_pb2.HealthCheckRequest()
    async with grpc.aio.insecure_channel(running.target) as channel:
        stub = health_pb2_grpc.HealthStub(channel)
        assert (await refusal(stub.Check(request)))[0] is Code.PERMISSION_DENIED
        assert (await stub.Check(request, metadata=header)).status
        assert await stub.Watch(request).code() is Code.PERMISSION_DENIED
        watch = stub.Watch(request, metadata=header)
        assert (await watch.read()).status
        watch.cancel()
    assert (await running.readyz())[0] in (200, 503), "the probes of the HTTP port need none"


async def test_a_restricted_group_needs_its_header_as_in_triton(start: Start) -> None:
    restriction = "model-repository,statistics:admin-Key=a=b image:x=y"
    running = await start(grpc_restricted_protocol=restriction)
    header = (("triton-grpc-protocol-admin-key", "a=b"),)
    index = pb.RepositoryIndexRequest()
    async with grpc.aio.insecure_channel(running.target) as channel:
        stub = service_pb2_grpc.GRPCInferenceServiceStub(channel)
        images = images_pb2_grpc.ImageServiceStub(channel)
        assert await stub.ModelInfer(infer_request()), "not restricted"
        for metadata in ((), (("triton-grpc-protocol-admin-key", "a"),), (("triton-grpc-protocol-x", "y"),)):
            code, text, _ = await refusal(stub.RepositoryIndex(index, metadata=metadata))
            assert code is Code.PERMISSION_DENIED
            assert "'triton-grpc-protocol-admin-key'" in text
            assert "a=b" not in text
        assert await stub.RepositoryIndex(index, metadata=header)
        assert await stub.ModelStatistics(pb.ModelStatisticsRequest(), metadata=header)
        stream = images.GenerateStream(images_pb2.GenerateRequest(model="tiny", count=1))
        assert await stream.code() is Code.PERMISSION_DENIED


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("inference", "must be GROUP"),
        ("inference:key", "must be GROUP"),
        ("inference:=v", "must be GROUP"),
        ("inferense:k=v", "no group 'inferense'; there are health, metadata, inference"),
        ("inference:k=v inference:l=w", "'inference' is named twice"),
    ],
)
def test_a_restriction_that_cannot_be_read_is_refused_at_start(text: str, problem: str) -> None:
    with pytest.raises(StartError, match=problem):
        access.read_restrictions(text)


def test_every_rpc_and_images_at_addresses_belong_to_one_group() -> None:
    named = [rpc for group in access.GROUPS.values() for rpc in group]
    ours = [method.name for method in images_pb2.DESCRIPTOR.services_by_name["ImageService"].methods]
    assert sorted(named) == sorted([*kserve.METHODS, *ours, "GetImage", "Check", "Watch"])
