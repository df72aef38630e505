"""The weights in a file of torch.export.save (.pt2), read as data: its graph is not even parsed.

Sources: `torch/export/pt2_archive/_package.py` and `torch/_export/serde/schema.py` for the layout since 2.8, a record
of plain numbers for each storage and a table of names; before, `torch/export/__init__.py`: a torch file in the zip.
"""

import io
import json
import math
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from models.checkpoints.pickle.files import read_archive
from models.checkpoints.pickle.machine import DAMAGED, PickleError
from models.checkpoints.pickle.storages import ZipRecords

TABLE = "model_weights_config.json"
WHOLE = ("serialized_state_dict.pt", "serialized_state_dict.json")  # the first versions called the same file so
# ScalarType of the schema.
DTYPES = {
    1: torch.uint8, 2: torch.int8, 3: torch.int16, 4: torch.int32, 5: torch.int64, 6: torch.float16, 7: torch.float32,
    8: torch.float64, 10: torch.complex64, 11: torch.complex128, 12: torch.bool, 13: torch.bfloat16,
}  # fmt: skip
MAX_DIMS = 8


def read_exported(path: Path) -> dict[str, torch.Tensor]:
    """The parameters and buffers of the program, by the names that they had in the module.

    Raises:
        PickleError: damaged, or a type of numbers that is not read.
    """
    records = ZipRecords(path)
    for name in records.names():
        if name.rpartition("/")[2] == TABLE:
            return _listed(records, name)
    for name in records.names():
        if name.rpartition("/")[2] in WHOLE:
            return _whole(bytes(records.read(name)))
    raise PickleError("a torch.export program without weights")


def _whole(data: bytes) -> dict[str, torch.Tensor]:
    with tempfile.NamedTemporaryFile(prefix="ganserve-", suffix=".pt") as file:
        file.write(data)
        file.flush()
        found: dict[str, torch.Tensor] = read_archive(Path(file.name))
        return found


def _listed(records: ZipRecords, table: str) -> dict[str, torch.Tensor]:
    folder = table.removesuffix(TABLE)
    try:
        config: Mapping[str, Any] = json.load(io.BytesIO(records.read(table)))["config"]
        found, read = {}, {}
        for name, entry in config.items():
            record = f"{folder}{entry['path_name']}"
            if entry["use_pickle"]:
                raise PickleError(f"{name[:80]} is a tensor of a class of its own; plain ones are read")
            if record not in read:
                read[record] = records.read(record)
            found[name] = _tensor(name, entry["tensor_meta"], read[record])
    except PickleError:  # a ValueError too
        raise
    except (KeyError, TypeError, AttributeError, ValueError, RecursionError):
        raise PickleError(f"{DAMAGED}: {TABLE}") from None
    return found


def _tensor(name: str, meta: Mapping[str, Any], data: bytearray) -> torch.Tensor:
    dtype = DTYPES.get(meta["dtype"])
    if dtype is None:
        raise PickleError(f"{name[:80]} has numbers of type {meta['dtype']!r} of torch.export; not read")
    sizes, strides = ([int(one["as_int"]) for one in meta[field]] for field in ("sizes", "strides"))
    offset = int(meta["storage_offset"]["as_int"])
    count, stored = math.prod(sizes), len(data) // dtype.itemsize
    if len(sizes) > MAX_DIMS or len(sizes) != len(strides) or min((offset, *sizes, *strides)) < 0:
        raise PickleError(f"{DAMAGED}: the shape of {name[:80]}")
    last = offset + sum((size - 1) * stride for size, stride in zip(sizes, strides, strict=True))
    if count > stored or (count and last >= stored):
        raise PickleError(f"{DAMAGED}: {name[:80]} has {count} numbers, {stored} are stored")
    if not stored:
        return torch.zeros(sizes, dtype=dtype)
    return torch.as_strided(torch.frombuffer(data, dtype=dtype, count=stored), sizes, strides, offset)
