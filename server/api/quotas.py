"""What callers with an API key may use per minute. Each server counts by itself."""

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextvars import ContextVar
from typing import Any

from numpy.typing import NDArray

from server.errors import ImageTooLarge, Overloaded

MINUTE_S = 60.0
_CHANNELS = range(1, 5)


class Quotas:
    """What is left of one key's quotas."""

    def __init__(self, check: Callable[[], None]) -> None:
        """`check`: raises an AccessError if the key is not accepted any more, and sets the limits to what holds now."""
        self._check = check
        self._requests = _Quota("requests")
        self._images = _Quota("images")
        self._pixels = _Quota("pixels")

    def limit(self, name: str, requests: int | None, images: int | None, pixels: int | None) -> None:
        """Sets the numbers per minute; None: no limit. `name`: of the key."""
        for quota, per_minute in ((self._requests, requests), (self._images, images), (self._pixels, pixels)):
            quota.limit(name, per_minute)

    def take_message(self) -> None:
        """Counts a message of a stream, which may have begun long ago.

        Raises:
            AccessError: the key is not accepted any more.
            Overloaded: there were too many in the last minute.
        """
        self._check()
        self.take_request()

    def take_request(self) -> None:
        """Counts a request.

        Raises:
            Overloaded: there were too many in the last minute.
        """
        self._requests.check(1)
        self._requests.left -= 1

    def return_request(self) -> None:
        """Gives one back that was counted."""
        self._requests.left += 1

    def give_back(self, images: int, pixels: int) -> None:
        """Gives back what was taken for images that were not needed."""
        self._images.left += images
        self._pixels.left += pixels

    def take(self, images: int, pixels: int) -> None:
        """Counts images and their pixels: both, or neither if one of them is refused.

        Raises:
            Overloaded: there were too many in the last minute.
            ImageTooLarge: one call wants more than a whole minute's.
        """
        self._images.check(images)
        self._pixels.check(pixels)
        self._images.left -= images
        self._pixels.left -= pixels


class _Quota:
    """A minute's worth, which fills up again evenly. `left`: what may be taken now, as of the last check."""

    def __init__(self, unit: str) -> None:
        self._name, self._unit = "", unit
        self._per_minute: int | None = None
        self.left = 0.0
        self._at = time.monotonic()

    def limit(self, name: str, per_minute: int | None) -> None:
        """Full at first, and where there was no limit before."""
        if per_minute is not None and self._per_minute is None:
            self.left, self._at = float(per_minute), time.monotonic()
        self._name, self._per_minute = name, per_minute

    def check(self, amount: int) -> None:
        limit = self._per_minute
        if limit is None:
            return
        quota = f"the quota of key {self._name!r} is {limit:,} {self._unit} per minute ({self._unit}_per_minute)"
        if amount > limit:
            raise ImageTooLarge(f"{amount:,} {self._unit} in one request: {quota}")
        now = time.monotonic()
        self.left = min(float(limit), self.left + (now - self._at) * limit / MINUTE_S)
        self._at = now
        if amount > self.left:
            wait_s = (amount - self.left) * MINUTE_S / limit
            raise Overloaded(f"{quota}, {self.left:,.0f} of them are left; try again in {wait_s:.1f} s", wait_s)


current_quotas: ContextVar[Quotas | None] = ContextVar("current_quotas", default=None)
"""Of the key of the current request; None if callers need no key."""


def uncharge_request() -> None:
    """Gives back the request as which the last call here was counted: it was a part of another one."""
    quotas = current_quotas.get()
    if quotas is not None:
        quotas.return_request()


def uncharge(images: int, pixels: int) -> None:
    """Gives back images that the current request was charged for and did not need."""
    quotas = current_quotas.get()
    if quotas is not None:
        quotas.give_back(images, pixels)


def charge_message() -> None:
    """Counts a message of a stream as a request of the stream's key, if it has one.

    Raises:
        AccessError: the key is not accepted any more.
        Overloaded: there were too many in the last minute.
    """
    quotas = current_quotas.get()
    if quotas is not None:
        quotas.take_message()


def charge(images: int, pixels: int) -> None:
    """Counts work that the current request wants against the quotas of its key, if it has one.

    Args:
        pixels: of the images that will be returned, or as a network gives them on the way if those are more.

    Raises:
        Overloaded: a quota is used up.
        ImageTooLarge: it is more than a whole minute's.
    """
    quotas = current_quotas.get()
    if quotas is not None:
        quotas.take(images, pixels)


def charge_tensors(
    items: int, arrays: Mapping[str, NDArray[Any]], computed: Iterable[Sequence[int]], scale: int
) -> None:
    """`charge` for a request of tensors: an item is an image, as large as what is computed (shapes with or without the
    batch axis) or `scale` times its inputs."""
    if current_quotas.get() is not None:
        known = [_image_px(shape[-3:]) for shape in computed]
        given = [_image_px(array.shape[-3:]) * scale**2 for array in arrays.values()]
        charge(items, items * max((*known, *given)))


def _image_px(shape: Sequence[int]) -> int:
    """Height times width of (H, W, C) or (C, H, W); 0 for any other shape."""
    if len(shape) != 3:
        return 0
    if shape[2] in _CHANNELS:
        return shape[0] * shape[1]
    return shape[1] * shape[2] if shape[0] in _CHANNELS else 0
