"""Files of pickles, by any name: what torch.save, torch.jit.save and pickle.dump write, in all their forms."""

import io
from pathlib import Path
from typing import IO, Any

from models.checkpoints.pickle import storages
from models.checkpoints.pickle.machine import PickleError
from models.checkpoints.pickle.storages import ArchivedStorages, FolderRecords, Records, ZipRecords
from models.checkpoints.pickle.tensors import load

PICKLE = "data.pkl"


def read_pickle(path: Path) -> Any:
    """What a plain pickle holds, or a torch file of the format before 1.6, which is a row of pickles.

    Raises:
        PickleError: damaged, or too much.
    """
    size_bytes = path.stat().st_size
    with path.open("rb") as stream:

        def following(stream: IO[bytes], identified: Any) -> Any:
            return load(stream, size_bytes, identified)

        found = load(stream, size_bytes)
        if isinstance(found, int) and found == storages.MAGIC:
            return storages.read_legacy(stream, size_bytes, following, begun=found)
        return found


def read_archive(path: Path) -> Any:
    """What a torch file holds, a zip or the folder that it was unpacked to. Also TorchScript: its modules are objects.

    Raises:
        PickleError: damaged, too much, or another archive.
    """
    records: Records = FolderRecords(path) if path.is_dir() else ZipRecords(path)
    names = records.names()
    pickles = sorted((name for name in names if name.rpartition("/")[2] == PICKLE), key=len)
    if not pickles:
        raise PickleError(f"no torch file: an archive without {PICKLE}")
    top = pickles[0].removesuffix(PICKLE)
    swapped = f"{top}byteorder" in names and bytes(records.read(f"{top}byteorder")).strip() == b"big"
    data = bytes(records.read(pickles[0]))
    total = path.stat().st_size if path.is_file() else len(data)
    return load(io.BytesIO(data), max(total, len(data)), ArchivedStorages(records, f"{top}data", swapped))
