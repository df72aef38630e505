"""What a file is that should be an ONNX graph and is not: told by its first bytes, nothing of it is unpacked or run."""

from pathlib import Path

_UNPACK = "unpack it first"
_EXPORT = "holds weights without a graph; ganserve export makes one"
# (offset, first bytes, what it is)
_MARKS = (
    (0, b"\x1f\x8b", f"is gzip data; {_UNPACK}"),
    (0, b"BZh", f"is bzip2 data; {_UNPACK}"),
    (0, b"\xfd7zXZ\0", f"is xz data; {_UNPACK}"),
    (0, b"\x28\xb5\x2f\xfd", f"is Zstandard data; {_UNPACK}"),
    (0, b"7z\xbc\xaf\x27\x1c", f"is a 7z archive; {_UNPACK}"),
    (0, b"Rar!", f"is a RAR archive; {_UNPACK}"),
    (257, b"ustar", f"is a tar archive; {_UNPACK}"),
    (0, b"\x89HDF\r\n\x1a\n", "is HDF5 (Keras), not ONNX; convert it with tf2onnx"),
    (4, b"TFL3", "is TensorFlow Lite, not ONNX; convert it with tf2onnx"),
    (4, b"ORTM", "is in ONNX Runtime's own format (.ort); serve the ONNX file that it was made from"),
    (0, b"ptrt", "is a TensorRT engine; name it model.plan"),
    (0, b"ftrt", "is a TensorRT engine; name it model.plan"),
    (0, b"GGUF", f"is GGUF, which {_EXPORT}"),
    (0, b"\x93NUMPY", "is a numpy array"),
    (0, b"\x89PNG", "is a picture"),
    (0, b"\xff\xd8\xff", "is a picture"),
    (0, b"GIF8", "is a picture"),
    (8, b"WEBP", "is a picture"),
    (0, b"%PDF", "is a PDF document"),
    (0, b"\x7fELF", "is a program or library"),
    (0, b"MZ", "is a program or library"),
)
_START_BYTES = 512
# Protobuf's kinds of fields by the lowest bits of their keys: those of a fixed size, and those that say theirs.
_VARINT, _SIZED, _FIXED = 0, 2, {1: 8, 5: 4}
# More fields than this has no graph at its top level: opsets, properties and functions are some.
_MOST_FIELDS = 100_000


def other_format(path: Path) -> str:
    """What a file is that is not a whole ONNX graph: "is gzip data; unpack it first"; "" if nobody knows.

    Raises:
        OSError: it cannot be read.
    """
    with path.open("rb") as file:
        start = file.read(_START_BYTES)
    for offset, mark, what in _MARKS:
        if start[offset:].startswith(mark):
            return what
    if start.startswith(b"PK\x03\x04"):
        if b"data.pkl" in start:
            return f"is a PyTorch checkpoint, which {_EXPORT}"
        return "is numpy's .npz" if b".npy" in start else f"is a zip archive; {_UNPACK}"
    if start[:1] == b"\x80" and start[1:2] in (b"\x02", b"\x03", b"\x04", b"\x05"):
        return f"is a Python pickle, such as an old PyTorch checkpoint, which {_EXPORT}"
    if start[8:10] == b'{"' and int.from_bytes(start[:8], "little") < path.stat().st_size:
        return f"is safetensors, which {_EXPORT}"
    if start and all(byte in b"\t\n\r" or 32 <= byte < 127 for byte in start):
        return "is text, not a graph; perhaps the answer of a download that failed"
    return _cut_off(path)


def _cut_off(path: Path) -> str:
    """That a graph ends too early, if it is one: its last field says that it is longer than the file."""
    size = path.stat().st_size
    with path.open("rb") as file:
        at = 0
        for _ in range(_MOST_FIELDS):
            file.seek(at)
            head = file.read(20)
            key, used = _varint(head, 0)
            if not 0 < key >> 3 < 64:  # no field of a graph
                return ""
            kind = key & 7
            if kind == _SIZED:
                length, used = _varint(head, used)
                used += max(0, length)
            elif kind == _VARINT:
                _, used = _varint(head, used)
            elif kind in _FIXED:
                used += _FIXED[kind]
            else:
                return ""
            at += used
            if at == size:
                return ""
            if at > size:
                return f"is cut off: it has {size} bytes of {at} or more; copy or download it again"
    return ""


def _varint(data: bytes, at: int) -> tuple[int, int]:
    """A number of Protobuf and where it ends; -1 if it is none."""
    value = 0
    for shift in range(0, 70, 7):
        if at >= len(data):
            return -1, at + 1
        value |= (data[at] & 127) << shift
        at += 1
        if data[at - 1] < 128:
            return value, at
    return -1, at
