"""A name server for one name: what a cluster's DNS says of a headless Service."""

import socketserver
import struct
import threading
from collections.abc import Sequence
from typing import Self

A, INTERNET = 1, 1
HEADER = struct.Struct("!6H")  # id, flags, questions, answers, authorities, additional


class NameServer:
    """Answers every query for an A record with `addresses`, and others with nothing. Listens on loopback, UDP."""

    def __init__(self) -> None:
        self.addresses: Sequence[str] = ()
        names = self

        class Query(socketserver.BaseRequestHandler):
            def handle(self) -> None:
                data, socket = self.request
                socket.sendto(_answer(data, names.addresses), self.client_address)

        self._server = socketserver.ThreadingUDPServer(("127.0.0.1", 0), Query)
        self.port = int(self._server.server_address[1])
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,))

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


def _answer(query: bytes, addresses: Sequence[str]) -> bytes:
    end = query.index(b"\0", HEADER.size) + 5  # of the question: the name, its type and class
    question = query[HEADER.size : end]
    kind = int.from_bytes(question[-4:-2], "big")
    records = [_record(address) for address in addresses] if kind == A else []
    flags = 0x8580  # an answer with authority
    return HEADER.pack(int.from_bytes(query[:2], "big"), flags, 1, len(records), 0, 0) + question + b"".join(records)


def _record(address: str) -> bytes:
    name, seconds = 0xC000 | HEADER.size, 0  # the question's name; not to be kept
    return struct.pack("!3HIH4B", name, A, INTERNET, seconds, 4, *map(int, address.split(".")))
