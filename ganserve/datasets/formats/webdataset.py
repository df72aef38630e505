"""WebDataset: tar files whose members of one stem are one sample, `.png`, `.cls` and `.json`."""

import io
import json
import tarfile
from typing import Any

from ganserve.datasets.description import Description
from ganserve.datasets.formats.writer import Item, PartFile, Place


class TarWriter:
    """`<model>-000003.tar`, with the same bytes whenever it is made of the same images."""

    def __init__(self, about: Description, place: Place) -> None:
        self._about = about
        self.target = place.folder / f"{about.stem}-{place.shard:06d}.tar"
        self._part = PartFile(self.target)
        self._tar = tarfile.open(fileobj=self._part.file, mode="w", format=tarfile.USTAR_FORMAT)  # noqa: SIM115

    def add(self, item: Item) -> str:
        """Writes the sample's members; those of models without classes have no `.cls`."""
        name = self._about.name_of(item.index)
        facts: dict[str, Any] = {"seed": item.seed}
        if item.label is not None:
            facts |= {"label": item.label, "class": self._about.names[item.label]}
            self._add(f"{name}.cls", str(item.label).encode())
        self._add(f"{name}.json", json.dumps(facts, ensure_ascii=False).encode())
        image = f"{name}{self._about.suffix}"
        self._add(image, item.data)
        return image

    def finish(self) -> None:
        """Writes the tar's end and gives it its name."""
        self._tar.close()
        self._part.commit()

    def abandon(self) -> None:
        """Removes the unfinished file."""
        self._part.abandon()

    def _add(self, name: str, data: bytes) -> None:
        member = tarfile.TarInfo(name)
        member.size = len(data)
        self._tar.addfile(member, io.BytesIO(data))
