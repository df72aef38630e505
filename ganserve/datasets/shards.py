"""One shard of a data set: its images from the server into its format, whole or not there."""

import errno
import hashlib
import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ganserve.client.results import GeneratedImage, ServedModel
from ganserve.datasets.description import Description
from ganserve.datasets.errors import DataSetError
from ganserve.datasets.folder import DataSetFolder, sha256_of
from ganserve.datasets.formats import WRITERS
from ganserve.datasets.formats.nvlabs import join
from ganserve.datasets.formats.writer import Item, PartFile, Place
from ganserve.datasets.requests import Source


def make_shard(
    folder: DataSetFolder,
    shard: int,
    source: Source,
    served: Callable[[], ServedModel],
    advance: Callable[[], None],
) -> bool:
    """Makes a shard, unless it is whole already, which is verified.

    Args:
        folder: of the data set.
        shard: its number, from 0.
        source: of the images.
        served: asks the server what it serves now.
        advance: called after each image.

    Returns:
        Whether it was made now.

    Raises:
        DataSetError: see the classes used; or the model changed meanwhile.
        ServerError: a call failed for good.
        OSError: a file cannot be written.
    """
    with folder.writing(shard):
        if folder.record(shard) is not None:
            folder.verify(shard)
            return False
        wanted = folder.about.contents.shard(shard, folder.about.shards)
        with _room(folder.path, f"shard {shard}"):
            _write(folder, shard, wanted, source, served, advance)
    return True


def join_shards(folder: DataSetFolder) -> Path | None:
    """Joins the shards of `nvlabs-zip` once all are whole, and removes them; the joined file. None: not to be done."""
    about = folder.about
    if not about.is_joined or folder.missing():
        return None
    target = folder.path / f"{about.stem}.zip"
    files = [folder.path / next(iter(folder.record(shard)["files"])) for shard in range(about.shards)]  # type: ignore[index]
    with folder.joining() as is_left:
        if is_left:
            with _room(folder.path, target.name):
                join(files, target)
                folder.write_joined(target)
        for file in files:
            file.unlink(missing_ok=True)
    return target


def require_unchanged(about: Description, served: ServedModel) -> None:
    """Whether the server still has the data set's model.

    Raises:
        DataSetError: another one, or it is not ready.
    """
    if (served.version, served.sha256) != (about.version, about.sha256) or served.state != "READY":
        raise DataSetError(
            f"{about.model} version {about.version} changed while its images were generated "
            f"(now {served.state}, sha256 {served.sha256[:12] or 'unknown'}, was {about.sha256[:12] or 'unknown'}): "
            "the shard was not kept"
        )


@contextmanager
def _room(path: Path, what: str) -> Iterator[None]:
    """Says what a full disk, quota or limit of file size means for the data set."""
    try:
        yield
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            raise
        raise DataSetError(
            f"{path}: {error.strerror} while {what} was written; whole shards are kept: make room and run it again"
        ) from None


def _write(
    folder: DataSetFolder,
    shard: int,
    wanted: range,
    source: Source,
    served: Callable[[], ServedModel],
    advance: Callable[[], None],
) -> None:
    about, name = folder.about, folder.name_of(shard)
    listed = folder.path / f"{name}.jsonl"
    writer = WRITERS[about.format](about, Place(folder.path, shard, wanted.start))
    lines = PartFile(listed)
    try:
        for index, image in zip(wanted, source.images(about, wanted), strict=True):
            assert image.seed is not None, "images are asked for by seed"
            file = writer.add(Item(index, image.seed, image.label, image.data))
            lines.file.write((json.dumps(_line(about, file, image), ensure_ascii=False) + "\n").encode())
            advance()
        model = served()
        require_unchanged(about, model)
        writer.finish()
        lines.commit()
    finally:
        lines.abandon()
        writer.abandon()
    facts: dict[str, Any] = {"images": len(wanted), "engine": model.engine, "precision": model.precision}
    files = {listed.name: sha256_of(listed)}
    if writer.target is not None:
        files = {writer.target.relative_to(folder.path).as_posix(): sha256_of(writer.target), **files}
    else:
        facts["each"] = listed.name
    folder.write_record(shard, files, facts)


def _line(about: Description, file: str, image: GeneratedImage) -> dict[str, Any]:
    line: dict[str, Any] = {"file": file, "seed": image.seed}
    if image.label is not None:
        line |= {"label": image.label, "class": about.names[image.label]}
    if image.choice is not None:
        line |= {"score": image.choice.score, "percentile": image.choice.percentile}
    if image.noise_seed is not None:
        line["noise_seed"] = image.noise_seed
    return {**line, "sha256": hashlib.sha256(image.data).hexdigest()}
