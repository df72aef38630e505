"""What one call may contain and return. Pure; built from the settings."""

from dataclasses import dataclass

from server.errors import ImageTooLarge
from server.images.generate import GenerateJob
from server.settings import Settings


@dataclass(frozen=True)
class Limits:
    """The settings of the same names. Each check returns if the value is within the limit.

    Raises:
        ImageTooLarge: it is not; the text has the value, the limit and the setting.
    """

    max_image_px: int
    max_whole_px: int
    max_images_per_call: int
    max_message_bytes: int
    max_queue_bytes: int
    max_held_bytes: int
    max_metadata_bytes: int

    @staticmethod
    def of(settings: Settings) -> "Limits":
        """The limits that the settings give."""
        return Limits(
            max_image_px=settings.max_image_px,
            max_whole_px=settings.max_whole_px,
            max_images_per_call=settings.max_images_per_call,
            max_message_bytes=settings.max_message_bytes,
            max_queue_bytes=settings.max_queue_bytes,
            max_held_bytes=settings.max_held_bytes,
            max_metadata_bytes=settings.max_metadata_bytes,
        )

    def check_image(self, what: str, width: int, height: int) -> None:
        """Of an image sent or returned, px."""
        _check_pixels(what, width, height, self.max_image_px, "max_image_px")

    def check_whole(self, what: str, width: int, height: int) -> None:
        """Of an image that a network takes or returns in one piece, as padded, px."""
        self.check_image(what, width, height)
        _check_pixels(f"{what}, in one piece", width, height, self.max_whole_px, "max_whole_px")

    def check_count(self, field: str, n: int) -> None:
        """Images of one call; `field`: of the request, for the text."""
        if n > self.max_images_per_call:
            raise ImageTooLarge(
                f"{field}: {n} images requested, at most {self.max_images_per_call} per call (max_images_per_call)"
            )

    def check_inputs(self, job: GenerateJob) -> None:
        """Bytes of a job's latents and noise."""
        if job.nbytes > self.max_queue_bytes:
            each = job.nbytes // job.n
            raise ImageTooLarge(
                f"{job.n} images of {each} bytes of latents and noise each, at most {self.max_queue_bytes // each} per "
                f"call ({self.max_queue_bytes} bytes, max_queue_bytes)"
            )

    def check_reply(self, nbytes: int, advice: str) -> None:
        """Bytes of a reply's images; `advice`: what the caller can do."""
        if nbytes > self.max_message_bytes:
            raise ImageTooLarge(
                f"the reply is {nbytes} bytes or more, at most {self.max_message_bytes} (max_message_bytes); {advice}"
            )


def _check_pixels(what: str, width: int, height: int, limit: int, setting: str) -> None:
    if width * height > limit:
        raise ImageTooLarge(f"{what}: {width} x {height} = {width * height} px, at most {limit} ({setting})")
