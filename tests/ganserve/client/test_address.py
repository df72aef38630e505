"""What people write for an address, and what is said if no gRPC server of ours answers there."""

import socket
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import grpc
import pytest

from ganserve import Client, DeadlinePassed, Unavailable
from ganserve.client.address import Address, diagnose
from tests.ganserve.fake_server import Call, Fake


@pytest.mark.parametrize(
    ("given", "target", "tls"),
    [
        (None, "localhost:8001", False),
        ("host:9", "host:9", False),
        ("host", "host:8001", False),
        ("[::1]", "[::1]:8001", False),
        ("http://host:9/", "host:9", False),
        ("https://host", "host:8001", True),
        ("dns:///headless:8001", "dns:///headless:8001", False),
        ("unix:/run/s", "unix:/run/s", False),
    ],
)
def test_addresses_are_taken_as_people_write_them(
    monkeypatch: pytest.MonkeyPatch, given: str | None, target: str, tls: bool
) -> None:
    monkeypatch.delenv("GANSERVE_SERVER", raising=False)
    found = Address.of(given, tls=False)
    assert (found.target, found.tls) == (target, tls)


def test_what_is_no_address_is_a_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    for given in ("http://host:9/v2/models", "", "host:port", "host:", "host:70000", "::1", "ftp://host:9", "a b"):
        with pytest.raises(ValueError, match="server must be HOST:PORT"):
            Client(given)
    monkeypatch.setenv("GANSERVE_SERVER", "from-the-environment:5")
    assert Address.of(None, tls=False).target == "from-the-environment:5"


@contextmanager
def answering(greeting: bytes) -> Iterator[int]:
    """The port of a server on loopback that answers every connection with these bytes."""
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            while True:
                try:
                    connection, _ = server.accept()
                except OSError:
                    return
                with connection, suppress(OSError):  # it may leave at any time
                    connection.recv(1024)
                    connection.sendall(greeting)

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield server.getsockname()[1]
        finally:
            server.shutdown(socket.SHUT_RDWR)
            thread.join()


def test_the_wrong_port_is_named_also_with_a_short_deadline() -> None:
    with answering(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n") as port:
        for deadline_s in (0.1, 30):
            with Client(f"127.0.0.1:{port}", retries=0) as client, pytest.raises(Unavailable, match="is an HTTP port"):
                client.models(deadline_s=deadline_s)


def test_a_server_that_is_not_there_is_named_with_what_to_do() -> None:
    with Client("http://127.0.0.1:1", retries=0) as client, pytest.raises(Unavailable) as caught:
        client.models()
    assert str(caught.value).startswith("no server answers at 127.0.0.1:1 (")
    assert str(caught.value).endswith("is `ganserve serve` running?")


def test_a_name_that_nobody_knows_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    def unknown(place: tuple[str, int], timeout_s: float) -> socket.socket:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr("ganserve.client.address.socket.create_connection", unknown)
    found = diagnose(Address.of("no.such.host", tls=False))
    assert (
        found == "the name of the server no.such.host:8001 is not known (Name or service not known); check the spelling"
    )


def test_a_passed_deadline_names_address_and_seconds(call: Call, fake: Fake) -> None:
    with pytest.raises(DeadlinePassed, match=rf"no reply from {fake.server} within 0\.2 s"):
        call("generate", "slow", seeds=1, deadline_s=0.2)


def test_tls_and_plain_text_are_told_apart(fake: Fake, needs_openssl: None, tmp_path: Path) -> None:
    key, certificate = tmp_path / "key.pem", tmp_path / "certificate.pem"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-subj",
         "/CN=localhost", "-addext", "subjectAltName=DNS:localhost", "-keyout", str(key), "-out", str(certificate)],
        check=True, capture_output=True,
    )  # fmt: skip
    credentials = grpc.ssl_channel_credentials(certificate.read_bytes())
    with (
        Client(fake.server, credentials=credentials, retries=0) as client,
        pytest.raises(Unavailable, match="speaks plain text"),
    ):
        client.models()
    server = grpc.server(None)  # type: ignore[arg-type]
    pair = [(key.read_bytes(), certificate.read_bytes())]
    port = server.add_secure_port("127.0.0.1:0", grpc.ssl_server_credentials(pair))
    server.start()
    try:
        with (
            Client(f"127.0.0.1:{port}", retries=0) as client,
            pytest.raises(Unavailable, match="speaks TLS; pass its CA"),
        ):
            client.models()
    finally:
        server.stop(0).wait()
