"""The forms of a data set: what trainers read."""

from collections.abc import Callable

from ganserve.datasets.description import Description
from ganserve.datasets.formats.imagefolder import ImageFolderWriter
from ganserve.datasets.formats.nvlabs import ZipWriter
from ganserve.datasets.formats.parquet import ParquetWriter
from ganserve.datasets.formats.webdataset import TarWriter
from ganserve.datasets.formats.writer import Place, ShardWriter

WRITERS: dict[str, Callable[[Description, Place], ShardWriter]] = {
    "imagefolder": ImageFolderWriter,
    "webdataset": TarWriter,
    "nvlabs-zip": ZipWriter,
    "parquet": ParquetWriter,
}
