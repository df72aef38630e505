"""The fake server that the gallery requests its images from."""

from tests.ganserve.fake_server import fake

__all__ = ["fake"]
