"""ncnn pairs: a small network written as ncnn writes it, read back; and pairs that are not what they seem."""

from pathlib import Path

import numpy as np
import pytest
import torch

from models.checkpoints.ncnn import NcnnError, parse
from models.checkpoints.read import CheckpointError, read
from models.families.superres.srvgg import SrvggNet


def pair(folder: Path, half: bool = True) -> tuple[Path, dict[str, torch.Tensor]]:
    """A .param with its .bin for a network of three convs with 5 features (odd, so that float16 needs padding)."""
    state = SrvggNet(3, 5, 3, 2, "prelu").state_dict()
    lines = ["Input in 0 1 data", "Split split 1 2 data a b"]
    data, last = b"", "b"
    for key in dict.fromkeys(key.rpartition(".")[0] for key in state):
        weight = state[f"{key}.weight"].numpy()
        if weight.ndim == 1:
            lines.append(f"PReLU {key} 1 1 {last} {key} 0={weight.size}")
            data += weight.tobytes()
        else:
            lines.append(f"Convolution {key} 1 1 {last} {key} 0={weight.shape[0]} 1=3 4=1 5=1 6={weight.size}")
            packed = weight.astype(np.float16).tobytes() if half else weight.tobytes()
            flag = 0x01306B47 if half else 0
            data += (
                flag.to_bytes(4, "little") + packed + bytes(-len(packed) % 4) + state[f"{key}.bias"].numpy().tobytes()
            )
        last = key
    lines += [f"PixelShuffle up 1 1 {last} up 0=2", "Interp near 1 1 a near 0=1 1=2.0e+00 2=2.0e+00"]
    lines += ["BinaryOp add 2 1 up near output"]
    (folder / "net.param").write_text("\n".join(["7767517", f"{len(lines)} 10", *lines]) + "\n")
    (folder / "net.bin").write_bytes(data)
    return folder / "net.param", dict(state)


@pytest.mark.parametrize("half", [True, False], ids=["float16", "float32"])
def test_weights_come_back_under_the_names_of_the_network(tmp_path: Path, half: bool) -> None:
    param, state = pair(tmp_path, half)
    for path in (param, param.with_suffix(".bin")):
        found = read(path).state
        assert list(found) == list(state)
        for key, tensor in found.items():
            torch.testing.assert_close(tensor, state[key], rtol=1e-3 if half else 0, atol=1e-4 if half else 0)


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (lambda text: text.replace("7767517", "7767518"), "no ncnn .param file"),
        (lambda text: text.replace("Interp near 1 1 a near 0=1", "Interp near 1 1 a near 0=2"), "nearest upsampling"),
        (lambda text: text.replace("1=3 4=1", "1=3 4=0", 1), "a 3x3 kernel"),
        (lambda text: text.replace("PixelShuffle up", "Reorg up"), "Reorg up where PixelShuffle belongs"),
        (lambda text: text.replace("BinaryOp add 2 1 up near output\n", ""), "the end where BinaryOp belongs"),
        (lambda text: text.replace("PReLU body.1 1 1", "PReLU body.1 one 1"), "no layer"),
        (lambda text: text.replace("0=5 1=3", "0=6 1=3", 1), "135 weights are not 6 filters"),
    ],
)
def test_another_graph_is_refused(tmp_path: Path, change: object, sentence: str) -> None:
    param, _ = pair(tmp_path)
    assert callable(change)
    param.write_text(change(param.read_text()))
    with pytest.raises(CheckpointError, match=sentence):
        read(param)


def test_missing_truncated_and_padded_weights_are_refused(tmp_path: Path) -> None:
    param, _ = pair(tmp_path)
    binary = param.with_suffix(".bin")
    data = binary.read_bytes()
    binary.write_bytes(data[:-4])
    with pytest.raises(CheckpointError, match="needs bytes"):
        read(param)
    binary.write_bytes(data + bytes(4))
    with pytest.raises(CheckpointError, match="accounts for"):
        read(param)
    binary.write_bytes(b"\x38\x4b\x0d\x00" + data[4:])
    with pytest.raises(CheckpointError, match="flag 0x000D4B38"):
        read(param)
    binary.unlink()
    with pytest.raises(CheckpointError, match="next to it, which is missing"):
        read(param)


def test_arrays_of_parameters_are_read() -> None:
    (layer,) = parse("7767517\n1 1\nConvolution c 1 1 a b 0=8 9=2 -23310=1,2.000000e-01\n")
    assert (layer.integer(0), layer.values[10]) == (8, (0.2,))
    with pytest.raises(NcnnError, match="no ncnn"):
        parse("")
