"""What of the page needs no browser: its files, and which pages may send images."""

import httpx
import pytest

from server.api.rest.endpoint import is_own_page
from server.api.rest.page import FOLDER
from tests.server.api.rest.conftest import client_of, error_of
from tests.server.conftest import Start


async def test_the_page_loads_nothing_from_elsewhere(http: httpx.AsyncClient) -> None:
    page = await http.get("/")
    assert page.headers["content-type"].startswith("text/html")
    assert "default-src 'none'" in page.headers["content-security-policy"]
    names = {path.name for path in FOLDER.iterdir()} - {"index.html"}
    for name in names:
        file = await http.get(f"/page/{name}")
        assert file.status_code == 200
        assert (await http.get(f"/page/{name}", headers={"If-None-Match": file.headers["etag"]})).status_code == 304
        assert f"/page/{name}" in page.text
        assert "://" not in file.text.replace("http://www.w3.org/2000/svg", "")
    assert "{{" not in page.text
    assert (await http.get("/page/../page.py")).status_code == 404


async def test_no_page_is_no_page(start: Start) -> None:
    running = await start(page=False)
    async with client_of(running) as http:
        assert (await http.get("/")).status_code == 404
        own = f"http://127.0.0.1:{running.serving.rest_port}"
        answer = await http.post("/v1/models/tiny:generate", json={"seed": 1}, headers={"Origin": own})
        assert (answer.status_code, "API keys" in error_of(answer)) == (403, True)


@pytest.mark.parametrize(
    ("origin", "host", "is_own"),
    [
        ("http://localhost:8000", "localhost:8000", True),
        ("http://127.0.0.1:8000", "127.0.0.1:8000", True),
        ("http://[::1]:8000", "[::1]:8000", True),
        ("https://10.0.0.7", "10.0.0.7", True),
        ("http://evil.example:8000", "localhost:8000", False),
        ("http://evil.example:8000", "evil.example:8000", False),
        ("http://localhost.evil.example", "localhost.evil.example", False),
        ("http://localhost:8001", "localhost:8000", False),
        ("http://127.0.0.1", "127.0.0.1:8000", False),
        ("null", "null", False),
        ("file://", "", False),
        ("http://[", "[", False),
        ("http://", "", False),
    ],
)
def test_only_the_own_page_sends_images_without_a_key(origin: str, host: str, is_own: bool) -> None:
    assert is_own_page(origin, host) is is_own
