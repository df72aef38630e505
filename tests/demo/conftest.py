"""The fake server that the exhibits are made with."""

from tests.ganserve.fake_server import fake

__all__ = ["fake"]
