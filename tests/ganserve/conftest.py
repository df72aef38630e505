"""The fake server that the tests of clients, command and demo talk to."""

from tests.ganserve.fake_server import ask, fake

__all__ = ["ask", "fake"]
