"""The fake server that the tests of clients, command and demo talk to."""

from tests.ganserve.fake_server import call, fake

__all__ = ["call", "fake"]
