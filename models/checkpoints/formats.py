"""What a file is, by its first bytes: extensions mean nothing. And what to do with one that is no checkpoint."""

import re
import struct
import zipfile
from enum import Enum, auto
from pathlib import Path

HEAD_BYTES = 512


class Format(Enum):
    """How a file with weights is written."""

    ARCHIVE = auto()  # a zip: torch.save since 1.6, torch.jit.save
    EXPORTED = auto()  # a zip: torch.export.save
    PICKLE = auto()  # torch.save before 1.6, pickle.dump
    SAFETENSORS = auto()


class FormatError(ValueError):
    """A file that holds no weights that are read here; one line that says what it is and what to do."""


# First bytes -> what the file is, and what to do.
STATE_DICT = "save the PyTorch network's state_dict() with torch.save or safetensors, and give that file"
OTHERS: tuple[tuple[bytes, str], ...] = (
    (b"version https://git-lfs", "a Git LFS pointer, not the weights; fetch them with `git lfs pull`"),
    (b"GGUF", f"a GGUF file, of llama.cpp and its relatives; {STATE_DICT}"),
    (b"GGML", f"a GGML file; {STATE_DICT}"),
    (b"\x89HDF\r\n\x1a\n", f"an HDF5 file, as Keras (TensorFlow) writes .h5; convert it to PyTorch, then {STATE_DICT}"),
    (b"\x08\x01\x12", f"a TensorFlow SavedModel; convert it to PyTorch or ONNX, or {STATE_DICT}"),
    (
        b"model_checkpoint_path",
        f"a TensorFlow checkpoint's list of files; convert the weights to PyTorch, then {STATE_DICT}",
    ),
    (b"\x93NUMPY", f"a NumPy array, .npy; {STATE_DICT}"),
    (b"\x1f\x8b", "compressed with gzip; unpack it with gunzip (tar xzf, if it is a tar) and give what comes out"),
    (b"BZh", "compressed with bzip2; unpack it with bunzip2 and give what comes out"),
    (b"\xfd7zXZ\x00", "compressed with xz; unpack it with unxz and give what comes out"),
    (b"\x28\xb5\x2f\xfd", "compressed with Zstandard; unpack it with unzstd and give what comes out"),
    (b"\x04\x22\x4d\x18", "compressed with LZ4; unpack it with unlz4 and give what comes out"),
    (b"7z\xbc\xaf\x27\x1c", "a 7z archive; unpack it and give the checkpoint that is in it"),
    (b"Rar!\x1a\x07", "a RAR archive; unpack it and give the checkpoint that is in it"),
    (b"\x89PNG\r\n\x1a\n", "a PNG image, not weights"),
    (b"\xff\xd8\xff", "a JPEG image, not weights"),
    (b"GIF8", "a GIF image, not weights"),
    (b"%PDF", "a PDF document, not weights"),
    (b"7767517", "an ncnn .param text; give it the suffix .param, next to its .bin"),
    (b"ftrt", "a TensorRT engine; give the checkpoint that it was built from"),
    (b"ptrt", "a TensorRT engine; give the checkpoint that it was built from"),
    (b"\x7fELF", "a program, not weights"),
)
PLAIN_PICKLE = re.compile(rb"\x80[\x01-\x05]|\((?:dp|lp|i\w)|[\]}]q|\]\(|c[\w.]+\n\w+\n|L119547037146038801333356L")
ONNX = re.compile(rb"\x08[\x03-\x14](?:[\x12\x1a\x22\x32\x3a\x42]|\x28)")
TFLITE = b"TFL3"


def format_of(path: Path) -> Format:
    """How the file is written.

    Raises:
        FormatError: it is empty, or no checkpoint.
    """
    with path.open("rb") as file:
        head = file.read(HEAD_BYTES)
    if not head:
        raise FormatError("the file is empty")
    if head.startswith(b"PK"):
        return _zip_format(path)
    if len(head) > 9 and head[8:9] == b"{" and struct.unpack("<Q", head[:8])[0] < path.stat().st_size:
        return Format.SAFETENSORS
    if PLAIN_PICKLE.match(head):
        return Format.PICKLE
    raise FormatError(_described(head))


def loading_call(path: Path) -> str:
    """How torch loads a graph that was saved with its code; empty for other files."""
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError):
        return ""
    if _is_exported(names):
        return f'torch.export.load("{path.name}")'
    return f'torch.jit.load("{path.name}")' if any("code/__torch__" in name for name in names) else ""


def _is_exported(names: list[str]) -> bool:
    ends = {name.rpartition("/")[2] for name in names}
    return "data.pkl" not in ends and bool(
        {"archive_format", "serialized_exported_program.json"} & ends or any("models/" in name for name in names)
    )


def _described(head: bytes) -> str:
    for start, sentence in OTHERS:
        if head.startswith(start):
            return sentence
    if re.match(rb"\s*<(!doctype|html|\?xml)", head, re.IGNORECASE):
        return "a web page saved under this name, not the weights; download the file itself"
    if head[4:8] == TFLITE:
        return f"a TensorFlow Lite model; {STATE_DICT}"
    if head[257:262] == b"ustar":
        return "a tar archive; unpack it with tar xf and give the checkpoint that is in it"
    if head[:4] == b"RIFF" and head[8:12] == b"WEBP":
        return "a WebP image, not weights"
    if ONNX.match(head) and (b"onnx" in head.lower() or b"pytorch" in head or head[2:3] in (b"\x12", b"\x3a")):
        return (
            "an ONNX graph, which can be served as it is: put it at REPOSITORY/NAME/1/model.onnx; "
            "with the ending .onnx ganserve export adopts it"
        )
    if head[:1] == b"\n" and (b"\x12\x0bPlaceholder" in head or b"\x12\x05Const" in head):
        return f"a frozen TensorFlow graph (.pb); convert it to ONNX with tf2onnx, or {STATE_DICT}"
    if not head.strip(b"\x00"):
        return "only zeros at its beginning: a download or a copy that did not end"
    if (head.isascii() and head.decode("ascii").isprintable()) or _is_text(head):
        return f"a text file ({head[:30].decode('utf-8', 'replace').strip()!a} ...), not weights"
    return f"not a checkpoint: begins with bytes {head[:8].hex(' ')}"


def _is_text(head: bytes) -> bool:
    return all(byte >= 32 or byte in b"\t\r\n" for byte in head) and head.isascii()


def _zip_format(path: Path) -> Format:
    """A zip with weights in it.

    Raises:
        FormatError: another archive.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError) as error:
        raise FormatError(f"truncated or damaged zip archive, a torch file perhaps: {str(error)[:100]}") from None
    ends = {name.rpartition("/")[2] for name in names}
    if "data.pkl" in ends:
        return Format.ARCHIVE
    if _is_exported(names):
        return Format.EXPORTED
    if "model.json" in ends and "attributes.pkl" in ends:
        raise FormatError(f"TorchScript of before PyTorch 1.4; load it with torch.jit.load, then {STATE_DICT}")
    if "config.json" in ends and "model.weights.h5" in ends:
        raise FormatError(f"a Keras (TensorFlow) model; convert it to PyTorch, then {STATE_DICT}")
    if names and all(name.endswith(".npy") for name in names):
        raise FormatError(f"NumPy arrays, .npz; {STATE_DICT}")
    files = [name for name in names if not name.endswith("/")]
    listed = ", ".join(files[:5])[:200] + (" ..." if len(files) > 5 else "")
    raise FormatError(f"a zip archive that holds {listed!a}; unpack it and give the checkpoint that is in it")
