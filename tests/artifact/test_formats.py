"""What lies in the place of a graph."""

import bz2
import gzip
import io
import lzma
import pickle
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from PIL import Image
from safetensors.numpy import save as to_safetensors

from artifact.formats import other_format
from tests.server.conftest import write_tiny

WEIGHTS = {"weight": np.ones((4, 4), np.float32)}


def tarred(graph: bytes) -> bytes:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w") as archive:
        archive.addfile(tarfile.TarInfo("model.onnx"))
    return file.getvalue()


def zipped(graph: bytes) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("model.onnx", graph)
    return file.getvalue()


def checkpoint(graph: bytes, **options: bool) -> bytes:
    file = io.BytesIO()
    torch.save({name: torch.from_numpy(array) for name, array in WEIGHTS.items()}, file, **options)
    return file.getvalue()


def arrays(graph: bytes) -> bytes:
    file = io.BytesIO()
    np.savez(file, weight=WEIGHTS["weight"])
    return file.getvalue()


def picture(kind: str) -> Callable[[bytes], bytes]:
    def make(graph: bytes) -> bytes:
        file = io.BytesIO()
        Image.new("RGB", (4, 4)).save(file, kind)
        return file.getvalue()

    return make


OTHERS: dict[str, tuple[Callable[[bytes], bytes], str]] = {
    "gzip": (gzip.compress, "is gzip data; unpack it first"),
    "bzip2": (bz2.compress, "is bzip2 data; unpack it first"),
    "xz": (lzma.compress, "is xz data; unpack it first"),
    "tar": (tarred, "is a tar archive; unpack it first"),
    "zip": (zipped, "is a zip archive; unpack it first"),
    "torch": (checkpoint, "is a PyTorch checkpoint, which holds weights without a graph; ganserve export makes one"),
    "old-torch": (
        lambda graph: checkpoint(graph, _use_new_zipfile_serialization=False),
        "is a Python pickle, such as an old PyTorch checkpoint, which holds weights without a graph",
    ),
    "pickle": (lambda graph: pickle.dumps(WEIGHTS), "is a Python pickle, such as an old PyTorch checkpoint"),
    "npz": (arrays, "is numpy's .npz"),
    "safetensors": (lambda graph: to_safetensors(WEIGHTS), "is safetensors, which holds weights without a graph"),
    "hdf5": (lambda graph: b"\x89HDF\r\n\x1a\n" + bytes(600), "is HDF5 (Keras), not ONNX"),
    "tflite": (lambda graph: b"\x1c\0\0\0TFL3" + bytes(600), "is TensorFlow Lite, not ONNX"),
    "ort": (lambda graph: b"\x1c\0\0\0ORTM" + bytes(600), "is in ONNX Runtime's own format"),
    "plan": (lambda graph: b"ftrt" + bytes(600), "is a TensorRT engine; name it model.plan"),
    "gguf": (lambda graph: b"GGUF\x03" + bytes(600), "is GGUF, which holds weights"),
    "png": (picture("PNG"), "is a picture"),
    "jpeg": (picture("JPEG"), "is a picture"),
    "webp": (picture("WEBP"), "is a picture"),
    "text": (
        lambda graph: b"Repository not found\n",
        "is text, not a graph; perhaps the answer of a download that fail",
    ),
    "json": (lambda graph: b'{"error": "Entry not found"}', "is text, not a graph"),
    "cut": (lambda graph: graph[:-1], "is cut off: it has "),
    "cut-in-half": (lambda graph: graph[: len(graph) // 2], "is cut off: it has "),
    "cut-early": (lambda graph: graph[:3], "is cut off: it has 3 bytes of "),
}


@pytest.fixture
def graph(tmp_path: Path) -> bytes:
    write_tiny(tmp_path, "tiny")
    return (tmp_path / "tiny" / "1" / "model.onnx").read_bytes()


@pytest.mark.parametrize("name", OTHERS)
def test_other_formats_are_named(name: str, graph: bytes, tmp_path: Path) -> None:
    make, text = OTHERS[name]
    (tmp_path / "model.onnx").write_bytes(make(graph))
    assert other_format(tmp_path / "model.onnx").startswith(text)


def test_a_whole_graph_is_none_of_them_whatever_is_in_its_fields(graph: bytes, tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    path.write_bytes(graph)
    assert other_format(path) == ""
    model = onnx.load_from_string(graph)
    model.producer_name, model.model_version = "x" * 300, -1
    model.metadata_props.add(key="a", value="b" * 70_000)
    path.write_bytes(model.SerializeToString())
    assert other_format(path) == ""


def test_nobody_knows_what_noise_is(tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    random = np.random.RandomState(0)
    for _ in range(100):
        path.write_bytes(b"\xf0" + random.bytes(600))
        assert other_format(path) == ""
