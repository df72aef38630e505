"""A folder for each class, as torchvision's ImageFolder, Keras, timm and Hugging Face's `imagefolder` read it."""

from pathlib import Path

from ganserve.datasets.description import Description
from ganserve.datasets.formats.writer import Item, Place


class ImageFolderWriter:
    """`<class>/<seed>.png`. Each file appears whole; those of a shard that is begun anew are written over."""

    target: Path | None = None

    def __init__(self, about: Description, place: Place) -> None:
        self._about, self._folder = about, place.folder
        self._part = place.folder / f".shard-{place.shard:05d}.part"
        self._made: set[str] = set()

    def add(self, item: Item) -> str:
        """Writes the image into its class's folder."""
        folder = self._about.folder_of(item.label)
        if folder not in self._made:
            (self._folder / folder).mkdir(exist_ok=True)
            self._made.add(folder)
        name = f"{folder}/{self._about.name_of(item.index)}{self._about.suffix}"
        self._part.write_bytes(item.data)
        self._part.replace(self._folder / name)
        return name

    def finish(self) -> None:
        """Nothing more: every file has its name."""

    def abandon(self) -> None:
        """Removes a file that is not whole."""
        self._part.unlink(missing_ok=True)
