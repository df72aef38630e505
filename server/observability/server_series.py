"""Series of the server as a whole: version, bytes in and out, connections, kept answers, the certificate."""

import platform
from collections.abc import Callable, Iterator, Mapping

from server.observability.prometheus_text import Counter, Family, family_lines, label_text


class ServerSeries:
    """What is not any model's. The readers are called at each scrape; loop thread only."""

    def __init__(self) -> None:
        protocol = ("protocol",)
        self._received = Family("counter", "ganserve_received_bytes_total", "Messages of callers", protocol, Counter)
        self._sent = Family("counter", "ganserve_sent_bytes_total", "Messages to callers", protocol, Counter)
        self._version = ""
        self._connections: Callable[[], Mapping[str, int]] = dict
        self._kept: Callable[[], int] = lambda: 0
        self._expires_at: Callable[[], float | None] = lambda: None

    def built(self, version: str) -> None:
        """Which version of ganserve this is."""
        self._version = version

    def bytes_by(self, protocol: str) -> tuple[Counter, Counter]:
        """For the bytes of messages that come and that go by that protocol, uncompressed."""
        return self._received.child(protocol), self._sent.child(protocol)

    def watch_connections(self, read: Callable[[], Mapping[str, int]]) -> None:
        """`read`: how many connections each port has; a port whose number is not known is left out."""
        self._connections = read

    def watch_kept(self, nbytes: Callable[[], int]) -> None:
        """`nbytes`: of the answers that are kept for equal requests."""
        self._kept = nbytes

    def watch_certificate(self, expires_at: Callable[[], float | None]) -> None:
        """`expires_at`: when the certificate in use ends, unix time; None if there is none."""
        self._expires_at = expires_at

    def lines(self) -> Iterator[str]:
        """The page's lines."""
        built = label_text({"version": self._version, "python": platform.python_version()})
        yield from family_lines("gauge", "ganserve_build_info", "1: this is what runs", [(built, 1)])
        yield from self._received.lines()
        yield from self._sent.lines()
        connections = [(label_text({"port": port}), number) for port, number in self._connections().items()]
        yield from family_lines("gauge", "ganserve_connections", "Open connections", connections)
        yield from family_lines("gauge", "ganserve_kept_bytes", "Answers kept for equal requests", [("", self._kept())])
        expires_at = self._expires_at()
        ends = [] if expires_at is None else [("", expires_at)]
        yield from family_lines(
            "gauge", "ganserve_certificate_expiry_timestamp_seconds", "When the certificate in use ends", ends
        )
