"""From feature maps to the enlarged image: what the last convs say, for networks that end in a pixel shuffle."""

import math


def scale_and_channels(maps: int, channels: int) -> tuple[int, int] | None:
    """(scale, channels of the image) of a pixel shuffle's input with so many maps; None if there is no such pair.

    Several pairs may fit. Taken is the image of as many channels as the one that goes in, `channels`, else of 3, 4, 1.
    """
    for out in (channels, 3, 4, 1):
        scale = math.isqrt(maps // out)
        if scale and scale**2 * out == maps:
            return scale, out
    return None
