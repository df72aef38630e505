"""Weights out of ncnn's `.param` + `.bin` pairs, renamed to the state-dict keys of the networks they were made from.

ncnn keeps no names, only layers in order, so the graph is first compared layer by layer with the one that the network
gives. A `.bin` holds, per convolution, a 4-byte flag (0: float32, 0x01306B47: float16, padded to 4 bytes), the weights
(out, in, k, k), then float32 biases; per PReLU its float32 slopes without a flag.
"""

import itertools
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch

MAGIC = "7767517"
FLOAT16 = 0x01306B47
FLOAT32 = 0


class NcnnError(ValueError):
    """A pair of files that is not one of the networks known here; one line that says what was found."""


@dataclass(frozen=True)
class Layer:
    """One line of a `.param` file; `values` are its numbered parameters, arrays as tuples."""

    kind: str
    name: str
    values: dict[int, tuple[float, ...]] = field(default_factory=dict)

    def integer(self, key: int, default: int = 0) -> int:
        """A numbered parameter that is a whole number."""
        return int(self.values.get(key, (default,))[0])


def read(param: Path, binary: Path) -> dict[str, torch.Tensor]:
    """The float32 state dict of an SRVGGNetCompact or RRDBNet from its two files.

    Raises:
        NcnnError: not ncnn files, another network, another weight encoding, or too few or too many bytes.
    """
    layers = [layer for layer in parse(param.read_text(errors="replace")) if layer.kind not in ("Input", "Split")]
    keys = _srvgg_keys(layers) if any(layer.kind == "PReLU" for layer in layers) else _rrdb_keys(layers)
    data = binary.read_bytes()
    weighted = [layer for layer in layers if layer.kind in ("Convolution", "PReLU")]
    state: dict[str, torch.Tensor] = {}
    offset = 0
    for layer, key in zip(weighted, keys, strict=True):
        tensors, offset = _tensors(layer, data, offset)
        state |= {f"{key}.{name}": torch.from_numpy(array) for name, array in tensors.items()}
    if offset != len(data):
        raise NcnnError(f"{binary.name} holds {len(data)} bytes, {param.name} accounts for {offset}")
    return state


def parse(text: str) -> list[Layer]:
    """The layers of a `.param` text, in order.

    Raises:
        NcnnError: no ncnn magic number, or a line that is no layer.
    """
    lines = text.splitlines()
    if not lines or lines[0].strip() != MAGIC:
        raise NcnnError(f"no ncnn .param file: the first line is not {MAGIC}")
    try:
        return [_layer(line.split()) for line in lines[2:] if line.strip()]
    except (ValueError, IndexError) as error:
        raise NcnnError(f"a line of the .param file is no layer: {error}") from None


def _layer(words: list[str]) -> Layer:
    kind, name, inputs, outputs = words[0], words[1], int(words[2]), int(words[3])
    values: dict[int, tuple[float, ...]] = {}
    for word in words[4 + inputs + outputs :]:
        key, text = word.split("=")
        numbers = tuple(float(number) for number in text.split(","))
        is_array = int(key) <= -23300  # ncnn writes array k as -23300 - k, its length first
        values[-23300 - int(key) if is_array else int(key)] = numbers[1:] if is_array else numbers
    return Layer(kind, name, values)


def _tensors(layer: Layer, data: bytes, offset: int) -> tuple[dict[str, np.ndarray], int]:
    """The layer's arrays by state-dict name, float32, and the offset behind them."""
    if layer.kind == "PReLU":
        slopes, offset = _take(data, offset, layer.integer(0), "<f4", layer)
        return {"weight": slopes}, offset
    out, kernel, size = layer.integer(0), layer.integer(1), layer.integer(6)
    if out < 1 or size % (out * kernel**2):
        raise NcnnError(f"layer {layer.name}: {size} weights are not {out} filters of {kernel}x{kernel}")
    flag, offset = _take(data, offset, 1, "<u4", layer)
    if flag[0] not in (FLOAT16, FLOAT32):
        raise NcnnError(f"layer {layer.name}: weights with flag 0x{int(flag[0]):08X}; float32 and float16 are read")
    weight, offset = _take(data, offset, size, "<f2" if flag[0] == FLOAT16 else "<f4", layer)
    bias, offset = _take(data, (offset + 3) // 4 * 4, out, "<f4", layer)
    return {"weight": weight.reshape(out, -1, kernel, kernel), "bias": bias}, offset


def _take(data: bytes, offset: int, count: int, dtype: str, layer: Layer) -> tuple[np.ndarray, int]:
    end = offset + count * np.dtype(dtype).itemsize
    if count < 1 or end > len(data):
        raise NcnnError(f"layer {layer.name} needs bytes {offset}..{end} of a .bin file of {len(data)}")
    array = np.frombuffer(data, dtype, count, offset)
    return array if dtype == "<u4" else array.astype(np.float32), end


def _srvgg_keys(layers: list[Layer]) -> list[str]:
    convs = sum(layer.kind == "Convolution" for layer in layers)
    expected = ["Convolution", "PReLU"] * (convs - 1) + ["Convolution", "PixelShuffle", "Interp", "BinaryOp"]
    _compare(layers, expected, "SRVGGNetCompact")
    shuffle, interp = layers[-3], layers[-2]
    scale = shuffle.integer(0)
    _require(interp.integer(0) == 1, "SRVGGNetCompact", interp, "nearest upsampling")
    _require(interp.integer(1) == interp.integer(2) == scale, "SRVGGNetCompact", interp, f"scale {scale}")
    for layer in layers:
        if layer.kind == "Convolution":
            _require_plain(layer, "SRVGGNetCompact", slope=None)
    return [f"body.{index}" for index in range(2 * convs - 1)]


def _rrdb_keys(layers: list[Layer]) -> list[str]:
    convs = [layer for layer in layers if layer.kind == "Convolution"]
    blocks = max(0, len(convs) - 6) // 15
    dense = ["Convolution", *["Concat", "Convolution"] * 4, "Eltwise"]
    body = [*dense * 3, "Eltwise"] * blocks
    tail = ["Interp", "Convolution", "Interp", "Convolution", "Convolution", "Convolution"]
    _compare(layers, ["Convolution", *body, "Convolution", "BinaryOp", *tail], "RRDBNet")
    for layer in layers:
        if layer.kind == "Interp":
            _require(layer.integer(0) == 1, "RRDBNet", layer, "nearest upsampling")
            _require(layer.integer(1) == layer.integer(2) == 2, "RRDBNet", layer, "scale 2")
        if layer.kind == "Eltwise":
            coefficients = tuple(round(value, 4) for value in layer.values.get(1, ()))
            _require(coefficients == (0.2, 1.0), "RRDBNet", layer, "0.2 and 1 as coefficients")
    parts = itertools.product(range(blocks), range(1, 4), range(1, 6))
    keys = ["conv_first", *(f"body.{block}.rdb{rdb}.conv{conv}" for block, rdb, conv in parts)]
    keys += ["conv_body", "conv_up1", "conv_up2", "conv_hr", "conv_last"]
    linear = ("conv_first", "conv5", "conv_body", "conv_last")
    for layer, key in zip(convs, keys, strict=True):
        _require_plain(layer, "RRDBNet", slope=None if key.endswith(linear) else 0.2)
    return keys


def _compare(layers: list[Layer], expected: list[str], network: str) -> None:
    for layer, kind in itertools.zip_longest(layers, expected):
        if layer is None or kind is None or layer.kind != kind:
            found = "the end" if layer is None else f"{layer.kind} {layer.name}"
            raise NcnnError(f"not {network}: {found} where {kind or 'the end'} belongs")


def _require(holds: bool, network: str, layer: Layer, what: str) -> None:
    if not holds:
        raise NcnnError(f"not {network}: {layer.kind} {layer.name} does not have {what}")


def _require_plain(layer: Layer, network: str, slope: float | None) -> None:
    """A 3x3 conv, stride 1, pad 1, with bias, followed by LeakyReLU of that slope or by nothing."""
    shape = (layer.integer(1), layer.integer(2, 1), layer.integer(3, 1), layer.integer(4), layer.integer(5))
    _require(shape == (3, 1, 1, 1, 1), network, layer, "a 3x3 kernel, stride 1, padding 1 and biases")
    found = round(layer.values.get(10, (0.0,))[0], 4) if layer.integer(9) == 2 else None
    _require(layer.integer(9) in (0, 2) and found == slope, network, layer, f"activation slope {slope}")
