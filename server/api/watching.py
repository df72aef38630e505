"""What the metrics read of the ports and their services at each scrape."""

from server.api.connections import established
from server.api.http import HttpServer
from server.api.tls import certificates_of
from server.observability.server_series import ServerSeries
from server.settings import Settings


def watch_ports(
    series: ServerSeries,
    settings: Settings,
    grpc_port: int,
    http: HttpServer,
    rest: HttpServer | None,
) -> None:
    """Has the series say what the open ports of a server have."""

    def connections() -> dict[str, int]:
        of_rest = None if rest is None else rest.connections
        found = {"grpc": established(grpc_port), "http": http.connections, "rest": of_rest}
        return {port: number for port, number in found.items() if number is not None}

    series.watch_connections(connections)
    # Of its own: each of those that the ports have is told once that the files have changed.
    certificates = certificates_of(settings)
    if certificates is not None:
        series.watch_certificate(certificates.expires_at)
