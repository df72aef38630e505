"""What a data set is, as its `manifest.json` says; every process that makes a part of it must mean the same."""

import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Literal

from ganserve.client.formats import SUFFIXES, FormatName
from ganserve.datasets.contents import Contents
from ganserve.datasets.errors import DataSetError

Format = Literal["imagefolder", "webdataset", "nvlabs-zip", "parquet"]
FORMATS: tuple[Format, ...] = ("imagefolder", "webdataset", "nvlabs-zip", "parquet")
NVLABS = "nvlabs-zip"
SCHEMA = 1
NAME_BYTES = 200  # of a folder's name


@dataclass(frozen=True)
class Description:
    """A data set.

    Attributes:
        model: name of the generator.
        version: of it.
        sha256: of its graph.
        size: width, height and channels of an image.
        names: the model's classes, by index; empty if it has none.
        contents: which images.
        shards: number of parts.
        format: of the data set.
        image_format: png, jpeg or webp.
        quality: of the images, as the server takes it; None: its default.
        parameters: what each image is generated with, besides seed and label.
        licence: of the model.
        source: of the model's weights.
    """

    model: str
    version: str
    sha256: str
    size: tuple[int, int, int]
    names: tuple[str, ...]
    contents: Contents
    shards: int
    format: Format
    image_format: FormatName = "png"
    quality: int | None = None
    parameters: Mapping[str, Any] = field(default_factory=dict)
    licence: str = ""
    source: str = ""

    @property
    def is_joined(self) -> bool:
        """Whether its shards become one file in the end."""
        return self.format == NVLABS and self.shards > 1

    @property
    def suffix(self) -> str:
        """Of an image's file."""
        return next(suffix for suffix, name in SUFFIXES.items() if name == self.image_format)

    @property
    def stem(self) -> str:
        """What names of files begin with."""
        return folder_name(self.model)

    def name_of(self, index: int) -> str:
        """An image's file without suffix: the seed that it is asked for by, of equal length throughout, so that files
        sort by it."""
        first = self.contents.first_seed
        return f"{first + index:0{max(8, len(str(first + self.contents.total - 1)))}d}"

    def folder_of(self, label: int | None) -> str:
        """The folder of a class; of a model without classes, the model's name."""
        if label is None:
            return self.stem
        return self._folders[label]

    @cached_property
    def _folders(self) -> tuple[str, ...]:
        """One for each class; names that would be the same folder, on any file system, get the index too."""
        plain = [folder_name(name) for name in self.names]
        times = Counter(name.casefold() for name in plain)
        return tuple(name if times[name.casefold()] == 1 else f"{name}-{i}" for i, name in enumerate(plain))

    def to_dict(self) -> dict[str, Any]:
        """The manifest."""
        width, height, channels = self.size
        counts = self.contents.counts.items()
        return {
            "schema": SCHEMA,
            "model": {
                "name": self.model, "version": self.version, "sha256": self.sha256, "licence": self.licence,
                "source": self.source,
            },
            "format": self.format,
            "shards": self.shards,
            "images": self.contents.total,
            "first_seed": self.contents.first_seed,
            "classes": [
                {"label": label, "name": self.names[label], "folder": self.folder_of(label), "images": count}
                for label, count in counts
            ],
            "image": {
                "format": self.image_format, "quality": self.quality, "width": width, "height": height,
                "channels": channels,
            },
            "parameters": dict(self.parameters),
        }  # fmt: skip

    def to_json(self) -> str:
        """The manifest's text."""
        return json.dumps(self.to_dict(), indent=2, ensure_ascii=False) + "\n"


def folder_name(text: str) -> str:
    """A name that every file system takes: what it does not take is written as %XX, as in addresses.

    A leading dot, which hides files, and what is beyond NAME_BYTES are replaced as well.
    """
    kept = "".join(each if each.isprintable() and each not in '/\\:*?"<>|%' else _escaped(each) for each in text)
    if kept.startswith(".") or not kept:
        kept = "%2E" + kept[1:]
    return kept.encode()[:NAME_BYTES].decode(errors="ignore").rstrip(" .") or "%20"


def _escaped(character: str) -> str:
    return "".join(f"%{byte:02X}" for byte in character.encode(errors="surrogatepass"))


def require_same(there: Mapping[str, Any], here: Mapping[str, Any], where: str) -> None:
    """Whether two manifests are of one data set.

    Raises:
        DataSetError: they differ; the first difference is named.
    """
    found = _differences(there, here)
    if not found:
        return
    key, old, new = found[0]
    more = f" (and {len(found) - 1} more)" if len(found) > 1 else ""
    advice = "choose another --out, or the same options"
    if key in ("model.version", "model.sha256"):
        advice = "the model has changed since: choose another --out, or serve that one again and name it by --version"
    raise DataSetError(f"{where} holds another data set: {key} is {old!r} there, {new!r} here{more}; {advice}")


def _differences(one: Any, other: Any, path: str = "") -> list[tuple[str, Any, Any]]:
    if isinstance(one, Mapping) and isinstance(other, Mapping):
        keys = [*one, *(key for key in other if key not in one)]
        return [
            found
            for key in keys
            for found in _differences(one.get(key), other.get(key), f"{path}.{key}" if path else str(key))
        ]
    return [] if one == other else [(path, one, other)]
