"""What ImageService replies: images, how they were made and how long it took."""

import time
from collections.abc import Collection
from typing import Any

from ganserve.v1 import images_pb2 as pb
from server.api.formats import WIRE_FORMATS
from server.api.quotas import uncharge
from server.images.codecs import Encoding
from server.images.encoded import EncodedImage
from server.images.generate import GeneratedImage, GenerateJob
from server.images.header import Format
from server.observability.metrics import Metrics
from server.repository.model import Model


class Fill:
    """Fills replies of generated images in, and counts what is in them."""

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics

    def image(self, message: pb.Image, model: Model, job: GenerateJob, image: GeneratedImage) -> None:
        """Puts an image into the reply, and counts it."""
        if job.encoding.format is not Format.RAW:
            self._metrics.encoded(model.name, image.encode_s)
        self._metrics.served(model.name, 1, image.shape[0] * image.shape[1])
        fill_image(message, image, job.encoding)
        if job.seeds is not None:
            message.seed = job.seeds[image.row]
        if job.labels is not None:
            message.label = int(job.labels[image.row])
        if job.noise is not None:
            message.noise_seed = job.noise.seeds[image.row]
        if job.w is not None:
            message.w = job.w[image.row].astype("<f4").tobytes()
            message.w_layers = job.w.shape[1]
        if (choice := image.choice) is not None and job.selection is not None:
            message.choice.score, message.choice.percentile = choice.score, choice.percentile
            message.choice.candidates, message.choice.accepted = choice.candidates, choice.accepted
            height, width, _ = job.selection.critic.spec.image_shape
            unused = job.selection.tries - choice.candidates
            uncharge(unused, unused * height * width)

    def steps(self, reports: Any, models: Collection[Model], images: Collection[GeneratedImage]) -> None:
        """What was made of the images after they were generated; every image has as many tiles as the others, or
        fewer."""
        for model, passes in zip(models, zip(*(image.passes for image in images), strict=True), strict=True):
            self._metrics.cut(model.name, sum(each.tiles for each in passes))
            reports.add(
                model=model.name,
                version=str(model.version),
                tiles=max(each.tiles for each in passes),
                largest_batch=max(each.largest_batch for each in passes),
            )


def fill_image(message: pb.Image, image: EncodedImage, encoding: Encoding) -> None:
    """Puts an encoded image into the reply."""
    # In place: a message given to another's constructor is copied, and this one may be 200 MB.
    message.data = image.data
    message.format = WIRE_FORMATS[encoding.format]
    message.height, message.width, message.channels = image.shape
    message.bits = 8


def fill_timings(timings: pb.Timings, images: Collection[EncodedImage], started: float) -> None:
    """Each phase at its longest. `started`: when the call started, by time.perf_counter."""
    timings.queue_s = max(image.queue_s for image in images)
    timings.compute_s = max(image.compute_s for image in images)
    timings.encode_s = max(image.encode_s for image in images)
    timings.total_s = time.perf_counter() - started
