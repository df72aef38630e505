"""Weights that lie beside a graph, in files that are links: as DVC, git-annex and Kubernetes volumes store them."""

import contextlib
import mmap
from collections.abc import Iterator
from pathlib import Path

import onnxruntime as ort

# Of these no graph has its weights in.
_NEVER_DATA = (".onnx", ".plan", ".json", ".pbtxt")


@contextlib.contextmanager
def linked_data(path: Path, options: ort.SessionOptions) -> Iterator[None]:
    """Hands the files beside a graph to the session that is opened inside, if the graph or one of them is a link.

    ONNX Runtime reads no data outside the folder that the graph really lies in, where links lead to different folders.
    """
    files = sorted(_data_files(path)) if _has_links(path) else []
    if not files or not hasattr(options, "add_external_initializers_from_files_in_memory"):  # ONNX Runtime before 1.23
        yield
        return
    with contextlib.ExitStack() as opened:
        maps = []
        for file in files:
            source = opened.enter_context(file.open("rb"))
            maps.append(opened.enter_context(mmap.mmap(source.fileno(), 0, access=mmap.ACCESS_READ)))
        names = [file.relative_to(path.parent).as_posix() for file in files]
        options.add_external_initializers_from_files_in_memory(names, maps, [len(each) for each in maps])
        yield


def _has_links(path: Path) -> bool:
    return path.is_symlink() or any(each.is_symlink() for each in path.parent.rglob("*"))


def _data_files(path: Path) -> Iterator[Path]:
    for file in path.parent.rglob("*"):
        if file.suffix not in _NEVER_DATA and file.is_file() and file.stat().st_size:
            yield file
