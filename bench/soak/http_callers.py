"""The callers of a soak that speak HTTP: images at addresses, and the HTTP API's requests; some leave in between."""

import http.client
import json
import random
from collections.abc import Callable

from bench.soak.callers import CALL_S, PAUSE_S, Soak
from tests.hostile import images

# Addresses that come again, so that some images are kept and some are on their way for another.
SEEDS = 64
# One in so many requests is left before its answer is read.
LEAVES = 8


def look(soak: Soak, rng: random.Random) -> None:
    """Images at addresses: new ones and kept ones, HEAD, and with the tag that the caller has."""
    tags: dict[str, str] = {}
    while not soak.stop.wait(PAUSE_S):
        model = rng.choice(soak.generators)
        label = "&label=0" if model.task == "class-conditional" else ""
        kind = rng.choice(("png", "webp", "jpeg"))
        address = f"/v1/models/{model.name}/image?seed={rng.randrange(SEEDS)}{label}&format={kind}"
        headers = {"If-None-Match": tags[address]} if address in tags and rng.random() < 0.5 else {}
        method = "HEAD" if rng.random() < 0.2 else "GET"
        answer = _exchange(soak, "look", rng, lambda c: c.request(method, address, headers=headers))  # noqa: B023
        if answer is not None and (tag := answer.headers["ETag"]):
            tags[address] = tag


def post(soak: Soak, rng: random.Random) -> None:
    """Requests with a body: generated images in JSON, and images that are enlarged."""
    good = images.good()
    while not soak.stop.wait(PAUSE_S):
        larger = soak.models.get("super-resolution", [])
        if larger and rng.random() < 0.5:
            path, body, kind = f"/v1/models/{rng.choice(larger).name}:upscale", good, "image/png"
        else:
            model = rng.choice(soak.generators)
            fields: dict[str, object] = {"count": rng.choice((1, 4, 32)), "format": "png"}
            if model.task == "class-conditional":
                fields["label"] = 0
            path, body, kind = f"/v1/models/{model.name}:generate", json.dumps(fields).encode(), "application/json"
        headers = {"Content-Type": kind, "Accept": "application/json, image/*"}
        _exchange(soak, "post", rng, lambda c: c.request("POST", path, body, headers))  # noqa: B023


HTTP_CALLERS = {"look": look, "post": post}


def _exchange(
    soak: Soak, caller: str, rng: random.Random, send: Callable[[http.client.HTTPConnection], None]
) -> http.client.HTTPResponse | None:
    """One request on a connection of its own, counted; None if its answer was not waited for."""
    connection = http.client.HTTPConnection(soak.target.rest, timeout=CALL_S)
    try:
        send(connection)
        if rng.randrange(LEAVES) == 0:
            soak.counts[caller, "left"] += 1
            return None
        answer = connection.getresponse()
        answer.read()
    except (OSError, http.client.HTTPException) as error:
        soak.counts[caller, type(error).__name__] += 1
        return None
    finally:
        connection.close()
    soak.counts[caller, "OK" if answer.status < 400 else f"HTTP {answer.status}"] += 1
    return answer
