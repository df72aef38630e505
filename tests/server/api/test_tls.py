"""TLS and client certificates of the gRPC port, with certificates that change while the server runs."""

import asyncio
import contextlib
import logging
import os
import re
import ssl
import subprocess
from pathlib import Path

import grpc
import httpx
import pytest
from tritonclient.grpc import service_pb2, service_pb2_grpc

from server import errors
from server.api import http, tls
from server.api.certificate import expiry_of
from server.api.transport import choose_frontend
from server.environment import read_settings
from tests.server.conftest import Running, Start, read_page

LIVE = service_pb2.ServerLiveRequest()


class Pair:
    """A private key and a certificate that it signed itself, for this machine or for a client."""

    def __init__(self, folder: Path, name: str, days: int = 1, curve: str = "prime256v1") -> None:
        self.key, self.certificate = folder / f"{name}.key", folder / f"{name}.pem"
        making = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", f"ec_paramgen_curve:{curve}", "-nodes"]
        making += ["-days", str(days), "-subj", f"/CN={name}", "-addext", "subjectAltName=IP:127.0.0.1"]
        making += ["-keyout", str(self.key), "-out", str(self.certificate)]
        subprocess.run(making, check=True, capture_output=True)

    def replace(self, old: "Pair") -> None:
        """Takes its place, as a tool that renews certificates does it."""
        self.replace_key(old)
        self.certificate.replace(old.certificate)

    def replace_key(self, old: "Pair") -> None:
        """Only half of it."""
        self.key.replace(old.key)


@pytest.fixture
def frontend() -> str:
    """`auto`, which takes the one that can."""
    return "auto"


@pytest.fixture
def pair(needs_openssl: None, tmp_path: Path) -> Pair:
    return Pair(tmp_path, "server")


async def is_live(running: Running, trusted: bytes, client: Pair | None = None) -> bool:
    """Whether a new connection gets an answer."""
    identity = (client.key.read_bytes(), client.certificate.read_bytes()) if client else (None, None)
    credentials = grpc.ssl_channel_credentials(trusted, *identity)
    options = [("grpc.use_local_subchannel_pool", 1)]
    async with grpc.aio.secure_channel(running.target, credentials, options) as channel:
        try:
            return bool((await service_pb2_grpc.GRPCInferenceServiceStub(channel).ServerLive(LIVE, timeout=10)).live)
        except grpc.aio.AioRpcError as error:
            if error.code() is not grpc.StatusCode.UNAVAILABLE:
                raise
            return False


async def test_auto_takes_the_front_end_that_has_tls_and_says_so_in_one_line(
    start: Start, pair: Pair, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "server")
    running = await start(tls_certificate=pair.certificate, tls_key=pair.key)
    assert await is_live(running, pair.certificate.read_bytes())
    assert running.serving.frontend == "grpcio"
    assert running.serving.exposed.tls == "server"
    said = [record.message for record in caplog.records if "front end" in record.message]
    assert said == ["front end grpcio: native does not support tls_certificate"]


async def test_a_renewed_certificate_is_served_without_a_restart(
    start: Start, pair: Pair, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(tls, "LOOK_S", 0.0)
    caplog.set_level(logging.INFO, "server")
    running = await start(tls_certificate=pair.certificate, tls_key=pair.key)
    old, newer = pair.certificate.read_bytes(), Pair(tmp_path, "newer")
    new = newer.certificate.read_bytes()
    assert (await is_live(running, old), await is_live(running, new)) == (True, False)
    newer.replace(pair)
    assert (await is_live(running, new), await is_live(running, old)) == (True, False)
    Pair(tmp_path, "other").replace_key(pair)
    assert await is_live(running, new), "a key that is not the certificate's changes nothing"
    Pair(tmp_path, "odd", curve="secp256k1").replace(pair)
    assert await is_live(running, new), "OpenSSL knows such a key, gRPC does not"
    os.unlink(pair.key)  # noqa: PTH108
    os.mkfifo(pair.key)
    assert await is_live(running, new)
    os.unlink(pair.certificate)  # noqa: PTH108
    assert await is_live(running, new)
    said = [record.fields["reason"] for record in caplog.records if record.message.startswith("certificates not read")]  # type: ignore[attr-defined]
    for reason, problem in zip(said, ("KEY_VALUES_MISMATCH", "gRPC does not know", "is not a file", ""), strict=True):
        assert problem in reason


async def test_clients_need_a_certificate_of_the_authority(start: Start, pair: Pair, tmp_path: Path) -> None:
    client, stranger = Pair(tmp_path, "client"), Pair(tmp_path, "stranger")
    running = await start(tls_certificate=pair.certificate, tls_key=pair.key, tls_client_ca=client.certificate)
    assert running.serving.exposed.tls == "mutual"
    trusted = pair.certificate.read_bytes()
    assert await is_live(running, trusted, client)
    assert not await is_live(running, trusted, stranger)
    assert not await is_live(running, trusted)


async def test_files_that_do_not_fit_are_one_line_at_start(start: Start, pair: Pair, tmp_path: Path) -> None:
    other = Pair(tmp_path, "other")
    empty = tmp_path / "empty.pem"
    empty.touch()
    for given, problem in (
        ({"tls_certificate": pair.certificate}, "TLS needs both"),
        ({"tls_client_ca": pair.certificate}, "tls_client_ca needs tls_certificate and tls_key"),
        ({"tls_certificate": pair.certificate, "tls_key": other.key}, "TLS: .*KEY_VALUES_MISMATCH"),
        ({"tls_certificate": tmp_path / "none", "tls_key": pair.key}, "TLS: .*No such file"),
        ({"tls_certificate": tmp_path, "tls_key": pair.key}, "TLS: .* is not a file"),
        ({"tls_certificate": pair.certificate, "tls_key": pair.key, "tls_client_ca": empty}, "TLS: .*empty.pem"),
    ):
        with pytest.raises(errors.StartError, match=problem) as caught:
            await start(**given)
        assert "\n" not in str(caught.value)


def test_native_asked_for_with_tls_is_a_start_error(tmp_path: Path) -> None:
    settings = read_settings(repository=tmp_path, frontend="native", tls_certificate=tmp_path, tls_key=tmp_path)
    with pytest.raises(errors.StartError, match="native does not support tls_certificate; pass --frontend grpcio"):
        choose_frontend(settings)


async def test_the_http_api_has_the_same_certificate_and_renews_it(start: Start, pair: Pair, tmp_path: Path) -> None:
    running = await start(tls_certificate=pair.certificate, tls_key=pair.key)
    url = f"https://127.0.0.1:{running.serving.rest_port}/v2/health/live"

    async def is_trusted(by: Path) -> bool:
        async with httpx.AsyncClient(verify=ssl.create_default_context(cafile=by)) as client:
            try:
                return (await client.get(url)).status_code == 200
            except httpx.ConnectError:
                return False

    old = tmp_path / "old.pem"
    old.write_bytes(pair.certificate.read_bytes())
    assert await is_trusted(old)
    (tmp_path / "new").mkdir()
    Pair(tmp_path / "new", "server").replace(pair)
    for _ in range(100):  # files are looked at once a second
        if await is_trusted(pair.certificate):
            break
        await asyncio.sleep(0.2)
    assert not await is_trusted(old)


def openssl_says_it_ends(certificate: Path) -> float:
    command = ["openssl", "x509", "-noout", "-enddate", "-in", str(certificate)]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    return float(ssl.cert_time_to_seconds(done.stdout.strip().partition("=")[2]))


async def test_the_metrics_say_when_the_certificate_in_use_ends(start: Start, pair: Pair, tmp_path: Path) -> None:
    """Also of one that is renewed, before anybody has connected."""
    running = await start(tls_certificate=pair.certificate, tls_key=pair.key)

    async def shown() -> float:
        _, page = await asyncio.to_thread(read_page, f"http://127.0.0.1:{running.serving.http_port}/metrics")
        (line,) = re.findall(r"^ganserve_certificate_expiry_timestamp_seconds (.+)$", page, re.M)
        return float(line)

    assert await shown() == openssl_says_it_ends(pair.certificate)
    (tmp_path / "new").mkdir()
    newer = Pair(tmp_path / "new", "server", days=30_000)  # after 2049 a certificate has its times in another form
    ends = openssl_says_it_ends(newer.certificate)
    newer.replace(pair)
    for _ in range(100):  # files are looked at once a second
        if await shown() == ends:
            break
        await asyncio.sleep(0.2)
    assert await shown() == ends > 3e9


async def test_files_with_a_mark_before_their_text_are_read(start: Start, pair: Pair) -> None:
    trusted = pair.certificate.read_bytes()
    for path in (pair.certificate, pair.key):
        path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes())
    running = await start(tls_certificate=pair.certificate, tls_key=pair.key)
    assert await is_live(running, trusted)


def test_what_is_no_certificate_is_an_error_in_one_line() -> None:
    for text in (b"", b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"):
        with pytest.raises(errors.StartError, match="the certificate's end cannot be read"):
            expiry_of(text)


# asyncio leaves a socket that the server refused to be closed by its destructor.
@pytest.mark.filterwarnings("ignore:Exception ignored in. <socket.socket:pytest.PytestUnraisableExceptionWarning")
async def test_connections_that_do_not_shake_hands_are_limited_in_number_and_time(
    start: Start, pair: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(http, "MAX_HANDSHAKES", 3)
    monkeypatch.setattr(http, "HANDSHAKE_S", 2.0)
    running = await start(tls_certificate=pair.certificate, tls_key=pair.key)
    port = running.serving.rest_port
    trusted = ssl.create_default_context(cafile=pair.certificate)

    async def is_live() -> bool:
        async with httpx.AsyncClient(verify=trusted) as client:
            try:
                return (await client.get(f"https://127.0.0.1:{port}/v2/health/live")).status_code == 200
            except httpx.TransportError:
                return False

    for _ in range(5):  # those that have shaken hands do not count
        assert await is_live()
    silent = [await asyncio.open_connection("127.0.0.1", port) for _ in range(3)]
    assert not await is_live()
    for reader, writer in silent:
        with contextlib.suppress(ConnectionResetError):
            assert await asyncio.wait_for(reader.read(), 30) == b"", "ended by the server"
        writer.close()
    assert await is_live()


async def test_the_http_api_needs_the_clients_certificate(start: Start, pair: Pair, tmp_path: Path) -> None:
    client_pair = Pair(tmp_path, "client")
    running = await start(
        tls_certificate=pair.certificate, tls_key=pair.key, tls_client_ca=client_pair.certificate
    )  # fmt: skip
    url = f"https://127.0.0.1:{running.serving.rest_port}/v2/health/live"
    context = ssl.create_default_context(cafile=pair.certificate)
    async with httpx.AsyncClient(verify=context) as client:
        with pytest.raises(httpx.TransportError):
            await client.get(url)
    context.load_cert_chain(client_pair.certificate, client_pair.key)
    async with httpx.AsyncClient(verify=context) as client:
        assert (await client.get(url)).status_code == 200
