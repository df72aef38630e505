"""A caching proxy in front of the server: nginx, with the configuration that docs/http.md shows."""

import re
import subprocess
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest

from tests.clients.conftest import LIMIT_S
from tests.serving import ServerProcess

DOCS = Path(__file__).resolve().parents[2] / "docs" / "http.md"
CALLERS = 16


@pytest.fixture
def proxied(server: ServerProcess, needs_nginx: None) -> Iterator[httpx.Client]:
    """A client of nginx, on a socket in a folder of its own."""
    found = re.search(r"```nginx\n(.*?)```", DOCS.read_text(), re.DOTALL)
    assert found is not None
    with tempfile.TemporaryDirectory(prefix="nginx") as folder:
        text = found[1].replace("/var/cache/nginx/ganserve", f"{folder}/cache")
        text = text.replace("listen 80", f"listen unix:{folder}/socket")
        text = text.replace("localhost:8000", f"127.0.0.1:{server.ready['rest_port']}")
        paths = " ".join(f"{kind}_temp_path {folder};" for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi"))
        Path(folder, "nginx.conf").write_text(
            f"daemon off; master_process off; pid {folder}/pid; error_log stderr; events {{}}\n"
            f"http {{ access_log off; {paths}\n{text}\n}}\n"
        )
        command = ["nginx", "-c", f"{folder}/nginx.conf", "-p", folder, "-e", "stderr"]
        nginx = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
        try:
            until = time.monotonic() + LIMIT_S
            while not Path(folder, "socket").exists():
                assert nginx.poll() is None, nginx.stderr.read() if nginx.stderr else ""
                assert time.monotonic() < until
                time.sleep(0.05)
            transport = httpx.HTTPTransport(uds=f"{folder}/socket")
            with httpx.Client(transport=transport, base_url="http://images", timeout=LIMIT_S) as client:
                yield client
        finally:
            nginx.terminate()
            nginx.communicate(timeout=LIMIT_S)


def requests_of(server: ServerProcess) -> float:
    """How many images at addresses the server was asked for."""
    page = httpx.get(f"http://127.0.0.1:{server.http_port}/metrics").text
    return sum(
        float(line.rpartition(" ")[2]) for line in page.splitlines() if "ganserve_image_url_requests_total{" in line
    )


def test_many_callers_of_a_new_image_are_one_request(server: ServerProcess, proxied: httpx.Client) -> None:
    short = f"http://127.0.0.1:{server.ready['rest_port']}/v1/models/styled/image?seed=77&label=1&format=png"
    address = httpx.head(short).headers["content-location"]
    before = requests_of(server)
    with ThreadPoolExecutor(CALLERS) as pool:
        answers = list(pool.map(lambda _: proxied.get(address), range(CALLERS)))
    assert {answer.status_code for answer in answers} == {200}
    assert len({answer.content for answer in answers}) == 1
    assert requests_of(server) == before + 1
    assert [answer.headers["x-cache"] for answer in answers].count("MISS") == 1
    again = proxied.get(address, headers={"If-None-Match": answers[0].headers["etag"]})
    assert (again.status_code, again.headers["x-cache"]) == (304, "HIT")
    assert requests_of(server) == before + 1
