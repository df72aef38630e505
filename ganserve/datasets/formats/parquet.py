"""Parquet as Hugging Face's `datasets` reads it: an image is a struct of bytes and path, a label has its names."""

import json
from contextlib import suppress
from typing import Any

from ganserve.datasets.description import Description
from ganserve.datasets.formats.writer import Item, PartFile, Place

ROWS = 100  # of a group, which a reader holds at a time; Hugging Face's own number for images


class ParquetWriter:
    """`data/train-00003-of-00020.parquet` with the columns image, label (unless the model has no classes) and seed."""

    def __init__(self, about: Description, place: Place) -> None:
        import pyarrow
        import pyarrow.parquet

        self._arrow, self._about = pyarrow, about
        self.target = place.folder / "data" / f"train-{place.shard:05d}-of-{about.shards:05d}.parquet"
        self.target.parent.mkdir(exist_ok=True)
        self._part = PartFile(self.target)
        self._writer = pyarrow.parquet.ParquetWriter(self._part.file, self._schema())
        self._rows: list[dict[str, Any]] = []

    def add(self, item: Item) -> str:
        """Keeps the image until its group of rows is complete."""
        name = f"{self._about.name_of(item.index)}{self._about.suffix}"
        row: dict[str, Any] = {"image": {"bytes": item.data, "path": name}, "seed": item.seed}
        if item.label is not None:
            row["label"] = item.label
        self._rows.append(row)
        if len(self._rows) == ROWS:
            self._write()
        return name

    def finish(self) -> None:
        """Writes the rest and the footer, and gives the file its name."""
        if self._rows:
            self._write()
        self._writer.close()
        self._part.commit()

    def abandon(self) -> None:
        """Removes the unfinished file."""
        with suppress(OSError, ValueError):  # else it tries to write its footer when it is collected
            self._writer.close()
        self._part.abandon()

    def _write(self) -> None:
        self._writer.write_table(self._arrow.Table.from_pylist(self._rows, self._schema()))
        self._rows = []

    def _schema(self) -> Any:
        arrow = self._arrow
        fields = [("image", arrow.struct([("bytes", arrow.binary()), ("path", arrow.string())]))]
        features: dict[str, Any] = {"image": {"_type": "Image"}}
        if self._about.names:
            fields.append(("label", arrow.int64()))
            features["label"] = {"names": list(self._about.names), "_type": "ClassLabel"}
        fields.append(("seed", arrow.int64()))
        features["seed"] = {"dtype": "int64", "_type": "Value"}
        return arrow.schema(fields, {"huggingface": json.dumps({"info": {"features": features}})})
