"""The services that a server offers, and how each protocol reaches them: gRPC and HTTP have the same servicers."""

from types import SimpleNamespace
from typing import Any

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc
from starlette.applications import Starlette
from tritonclient.grpc import service_pb2_grpc

from ganserve.v1 import images_pb2, images_pb2_grpc
from server.api import kserve
from server.api.access import Access
from server.api.alike import Alike
from server.api.calls import Calls
from server.api.health import Health
from server.api.image_url import ImagesByUrl
from server.api.images import ImageService
from server.api.incoming import Incoming
from server.api.rest.app import make_rest_app
from server.api.rest.endpoint import Endpoint
from server.api.rest.image_url import ImageUrls
from server.api.rest.images import ImageApi
from server.api.rest.page import page_routes
from server.api.rest.scores import ScoreApi
from server.api.rest.v2 import V2
from server.api.transport import add_reflection, awaits_messages
from server.images.memory import MemoryBudget
from server.images.workers import Workers
from server.observability.server_series import ServerSeries
from server.settings import Settings

IMAGES = images_pb2.DESCRIPTOR.services_by_name["ImageService"]
HEALTH = health_pb2.DESCRIPTOR.services_by_name["Health"]


class Services:
    """Tensors, images and health."""

    def __init__(
        self,
        settings: Settings,
        access: Access,
        tensors: kserve.InferenceService,
        images: ImageService,
        by_url: ImagesByUrl,
        health: Health,
        series: ServerSeries,
    ) -> None:
        self._settings = settings
        self._access = access
        self._tensors = tensors
        self._images = images
        self._by_url = by_url
        self._health = health
        self._series = series
        self._alike: Alike | None = None

    def add_to(self, server: grpc.aio.Server, frontend: str, calls: Calls) -> None:
        """Offers them on a gRPC server, with reflection. `calls`: what surrounds every call."""
        counters = self._series.bytes_by("grpc")
        incoming: Any = Incoming(server, self._settings, awaits_messages(frontend), counters)
        if hasattr(server, "alike"):  # one that can reject calls before they begin
            server.alike = self._alike = Alike(calls, counters[0], self._settings)
        tensors, images = self._wrapped(calls)
        methods = [method.name for method in HEALTH.methods]
        health = calls.wrap(self._access.guard(self._health, methods), HEALTH.full_name, methods)
        # The wrapped servicers have the methods of their classes and nothing else.
        service_pb2_grpc.add_GRPCInferenceServiceServicer_to_server(tensors, incoming)
        images_pb2_grpc.add_ImageServiceServicer_to_server(images, incoming)  # type: ignore[arg-type]
        health_pb2_grpc.add_HealthServicer_to_server(health, incoming)
        names = [kserve.SERVICE, IMAGES.full_name, HEALTH.full_name]
        add_reflection(server, names, lambda method: calls.limit(self._access.guard_reflection(method)))

    def models_changed(self) -> None:
        """Calls that were rejected for a model may be for another one now, or for none."""
        if self._alike is not None:
            self._alike.known.clear()

    def http_app(self, calls: Calls, workers: Workers, budget: MemoryBudget, version: str) -> Starlette:
        """Offers tensors and images over HTTP. `version`: ours."""
        endpoint = Endpoint(self._settings, budget, workers, self._series.bytes_by("http"))
        tensors, images = self._wrapped(calls)
        by_url = calls.wrap(self._access.guard(self._by_url, ["GetImage"]), IMAGES.full_name, ["GetImage"])
        apis = (
            V2(endpoint, tensors),
            ImageApi(endpoint, images),
            ScoreApi(endpoint, images),
            ImageUrls(endpoint, by_url),
        )
        page = page_routes(self._settings.grpc_port) if self._settings.page else []
        return make_rest_app([*(route for api in apis for route in api.routes()), *page], version)

    def _wrapped(self, calls: Calls) -> tuple[SimpleNamespace, SimpleNamespace]:
        """The servicers of tensors and images with what surrounds every call, and the checks of its caller."""
        methods = [method.name for method in IMAGES.methods]
        tensors = self._access.guard(self._tensors, kserve.METHODS)
        images = self._access.guard(self._images, methods)
        return calls.wrap(tensors, kserve.SERVICE, kserve.METHODS), calls.wrap(images, IMAGES.full_name, methods)
