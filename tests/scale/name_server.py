"""A name server for one name: what a cluster's DNS says of a headless Service."""

import socketserver
import struct
from collections.abc import Sequence

from tests.scale.listening import Listening

A, INTERNET = 1, 1
HEADER = struct.Struct("!6H")  # id, flags, questions, answers, authorities, additional


class NameServer(Listening):
    """Answers every query for an A record with `addresses`, and others with nothing. Listens on loopback, UDP."""

    def __init__(self) -> None:
        self.addresses: Sequence[str] = ()
        names = self

        class Query(socketserver.BaseRequestHandler):
            def handle(self) -> None:
                data, socket = self.request
                socket.sendto(_answer(data, names.addresses), self.client_address)

        super().__init__(socketserver.ThreadingUDPServer(("127.0.0.1", 0), Query))


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
