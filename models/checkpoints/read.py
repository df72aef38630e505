"""Reads a trained generator's weights from what training repositories leave behind, without running any of its code."""

import argparse
import re
import struct
import warnings
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import safetensors.torch
import torch

from artifact.repository import sha256_of
from models.architecture import StateDict
from models.checkpoints import ncnn
from models.checkpoints.pickle import nvidia
from models.checkpoints.pickle.machine import PickleError
from models.checkpoints.pickle.nvidia import Snapshot

# Where training scripts put the generator, the copy that their authors sample from (the running average) first.
AVERAGES = (
    "params_ema",
    "ema_state_dict",
    "netG_ema_state_dict",
    "g_ema",
    "G_ema",
    "generator_ema",
    "netG_ema",
    "avgG",
    "g_running",
    "shadow_generator",
    "generator_smooth",
    "generator_test",
)
PLAIN = (
    "params",
    "netG_state_dict",
    "generator_state_dict",
    "G_state_dict",
    "netG",
    "generator",
    "G",
    "g",
    "gen",
    "state_dict",
    "model_state_dict",
    "models",
    "model",
    "GAN",
)
BUFFERS = ("running_mean", "running_var", "num_batches_tracked", "weight_u", "weight_v")
BESIDE = ("latent_avg",)  # tensors next to the generator that belong to it: the mean latent of converted StyleGAN2
PREFIXES = ("_orig_mod.", "module.")
LEGACY_MAGIC = bytes.fromhex("80028a0a6cfc9c46f9206aa8501900")[:14]
MAX_NAME = 500
MAX_INFLATION = 4  # a genuine zip stores its tensors; more than this is a bomb


class CheckpointError(ValueError):
    """A file that holds no weights that can be read safely; one line that says what it is instead."""


@dataclass(frozen=True)
class Checkpoint:
    """Weights as they were read: float tensors as float32, contiguous, on the CPU.

    `dtype` is what the file stored, `sha256` that of the file with the weights, `notes` what was decided on the way,
    `config` what a file that belongs to it (or the checkpoint itself) says of the network: plain JSON values.
    """

    state: StateDict
    dtype: str
    sha256: str
    notes: tuple[str, ...] = ()
    config: Mapping[str, object] = field(default_factory=dict)


def read(path: Path) -> Checkpoint:
    """The state dict in a torch.save file (zip or legacy), a safetensors file, a plain pickle (NVIDIA's snapshots), or
    an ncnn `.param` + `.bin` pair.

    Raises:
        CheckpointError: missing, empty, truncated, not a checkpoint, unsafe, without tensors, or carrying NaN.
    """
    if path.is_dir() or not path.exists():
        raise CheckpointError(f"{path}: {'is a folder' if path.is_dir() else 'no such file'}")
    if path.suffix in (".param", ".bin") and path.with_suffix(".param").is_file():
        return _read_ncnn(path.with_suffix(".param"), path.with_suffix(".bin"))
    try:
        loaded = _load(path)
        snapshot = loaded if isinstance(loaded, Snapshot) else Snapshot(loaded)
        found, taken = _unwrap(snapshot.found)
        state, stripped = _strip(found)
        _check(state, path.stat().st_size)
    except (CheckpointError, PickleError) as error:
        raise CheckpointError(f"{path.name}: {error}") from None
    return _checkpoint(state, path, (*taken, *snapshot.notes, *stripped), snapshot.config)


def _read_ncnn(param: Path, binary: Path) -> Checkpoint:
    if not binary.is_file():
        raise CheckpointError(f"{param.name}: ncnn keeps the weights in {binary.name} next to it, which is missing")
    try:
        state = ncnn.read(param, binary)
        _check(state, 4 * binary.stat().st_size)
    except (ncnn.NcnnError, CheckpointError) as error:
        raise CheckpointError(f"{param.name}: {error}") from None
    return _checkpoint(state, binary, ("read from an ncnn pair: float16 kernels, float32 biases and slopes",))


def _checkpoint(
    state: StateDict, path: Path, notes: tuple[str, ...], config: Mapping[str, object] | None = None
) -> Checkpoint:
    dtypes = sorted(
        {str(tensor.dtype).removeprefix("torch.") for tensor in state.values() if tensor.is_floating_point()}
    )
    tensors = {
        key: (tensor.float() if tensor.is_floating_point() else tensor).contiguous() for key, tensor in state.items()
    }
    return Checkpoint(tensors, "+".join(dtypes), sha256_of(path), notes, config or {})


def _load(path: Path) -> Any:
    """The top object of the file, chosen by its first bytes: extensions mean nothing."""
    with path.open("rb") as file:
        head = file.read(512)
    if not head:
        raise CheckpointError("the file is empty")
    if head.startswith(b"version https://git-lfs"):
        raise CheckpointError("a Git LFS pointer, not the weights; fetch them with `git lfs pull`")
    if re.match(rb"\s*<(!doctype|html|\?xml)", head, re.IGNORECASE):
        raise CheckpointError("a web page saved under this name, not the weights; download the file itself")
    if head.startswith((b"PK\x03\x04", LEGACY_MAGIC)):
        return _load_torch(path, is_zip=head.startswith(b"PK"))
    if len(head) > 9 and head[8:9] == b"{" and struct.unpack("<Q", head[:8])[0] < path.stat().st_size:
        return _load_safetensors(path)
    if head.startswith(b"\x80"):
        return nvidia.read(path)
    if head.startswith(b"7767517"):
        raise CheckpointError("an ncnn .param text; give it the suffix .param, next to its .bin")
    raise CheckpointError(f"not a checkpoint: begins with bytes {head[:8].hex(' ')}")


def _load_safetensors(path: Path) -> dict[str, torch.Tensor]:
    try:
        return safetensors.torch.load_file(path)
    except Exception as error:  # the library's own error class and plain OSErrors
        raise CheckpointError(f"broken safetensors file: {_line(error)}") from None


def _load_torch(path: Path, is_zip: bool) -> Any:
    try:
        if is_zip:
            with zipfile.ZipFile(path) as archive:
                if sum(member.file_size for member in archive.infolist()) > MAX_INFLATION * path.stat().st_size:
                    raise CheckpointError("its records inflate far beyond the file's size; refused")
        with warnings.catch_warnings(), torch.serialization.safe_globals([argparse.Namespace]):
            warnings.simplefilter("ignore")
            return torch.load(path, map_location="cpu", weights_only=True)
    except CheckpointError:
        raise
    except Exception as error:  # torch raises a dozen kinds on broken files
        raise CheckpointError(_reason(error)) from None


def _reason(error: Exception) -> str:
    unsafe = re.search(r"GLOBAL\W+([\w.]+)", str(error))
    if "weights_only" in str(error) or "Unsupported" in str(error):
        what = f" ({unsafe.group(1)})" if unsafe else ""
        return f"holds Python objects{what}, and reading them would run code; save net.state_dict() instead"
    return f"truncated or damaged torch file: {_line(error)}"


def _line(error: Exception) -> str:
    lines = str(error).splitlines()
    return lines[0][:160] if lines else type(error).__name__


def _is_state(found: object) -> bool:
    return isinstance(found, Mapping) and bool(found) and all(torch.is_tensor(value) for value in found.values())


def _unwrap(found: Any, path: tuple[str, ...] = ()) -> tuple[dict[str, torch.Tensor], tuple[str, ...]]:
    """The generator's state dict inside what the file holds, and a note that says where it was."""
    if _is_state(found):
        keys = ".".join(path)
        ema = " (the running average)" if set(path) & set(AVERAGES) else ""
        return {str(key): value for key, value in found.items()}, (f"taken from key {keys}{ema}",) if path else ()
    if isinstance(found, torch.nn.Module) or not isinstance(found, Mapping) or len(path) > 3:
        raise CheckpointError(f"holds {_describe(found)} where a state dict belongs")
    if (averaged := _listed_average(found)) is not None:
        return averaged, ("taken from key g, its parameters from the list g_ema (the running average)",)
    for key in (*AVERAGES, *PLAIN):
        if isinstance(inner := found.get(key), Mapping) and _holds_tensors(inner):
            beside = {name: found[name] for name in BESIDE if torch.is_tensor(found.get(name))}
            return _unwrap({**inner, **beside}, (*path, key))
    states = [key for key, value in found.items() if _is_state(value)]
    if len(states) == 1:
        return _unwrap(found[states[0]], (*path, str(states[0])))
    if states:
        raise CheckpointError(f"several networks ({', '.join(map(str, states))}); save the generator's alone")
    odd = next((key for key, value in found.items() if not torch.is_tensor(value)), None)
    raise CheckpointError(
        "holds an empty dict" if odd is None else f"no state dict: entry {str(odd)!r} is {_describe(found[odd])}"
    )


def _listed_average(found: Mapping[Any, Any]) -> dict[str, torch.Tensor] | None:
    """FastGAN's all_<iteration>.pth: g's buffers with the parameters of g_ema, a list in the order of g's own."""
    listed, state = found.get("g_ema"), found.get("g")
    if not isinstance(listed, list) or not isinstance(state, Mapping) or not _is_state(state):
        return None
    names = [key for key in state if not key.endswith(BUFFERS)]
    if [getattr(tensor, "shape", None) for tensor in listed] != [state[key].shape for key in names]:
        raise CheckpointError(f"g_ema is a list of {len(listed)}, which are not the {len(names)} parameters of g")
    return {**state, **dict(zip(names, listed, strict=True))}


def _holds_tensors(found: Mapping[Any, Any], depth: int = 3) -> bool:
    level = [found]
    for _ in range(depth + 1):
        inner: dict[int, Mapping[Any, Any]] = {}  # each once, however often it occurs
        for value in (value for mapping in level for value in mapping.values()):
            if torch.is_tensor(value):
                return True
            if isinstance(value, Mapping):
                inner[id(value)] = value
        level = list(inner.values())
    return False


def _describe(found: object) -> str:
    return f"a {type(found).__name__}"


def _strip(state: dict[str, torch.Tensor]) -> tuple[dict[str, torch.Tensor], tuple[str, ...]]:
    """Without the prefixes that wrappers put before every key; only those that all keys share."""
    notes: tuple[str, ...] = ()
    averaged = state.pop("n_averaged", None)
    while prefix := next((p for p in PREFIXES if all(key.startswith(p) for key in state)), None):
        state = {key.removeprefix(prefix): value for key, value in state.items()}
        averaged = state.pop("n_averaged", averaged)
        notes += (f"prefix {prefix} taken off every key",)
    return state, notes


def _check(state: StateDict, file_bytes: int) -> None:
    if not state:
        raise CheckpointError("a state dict without entries")
    if not any(tensor.is_floating_point() for tensor in state.values()):
        raise CheckpointError("its tensors are whole numbers only: quantised, or no weights")
    for key, tensor in state.items():
        if len(key) > MAX_NAME or not key.isprintable():
            raise CheckpointError(
                f"a tensor's name, {key[:60]!a}, is longer than {MAX_NAME} or holds control characters"
            )
        if tensor.layout != torch.strided or tensor.is_quantized or tensor.is_complex() or tensor.is_meta:
            raise CheckpointError(f"{key} is a sparse, quantised, complex or empty tensor; plain ones are read")
        if tensor.numel() * tensor.element_size() > max(tensor.untyped_storage().nbytes(), 0):
            raise CheckpointError(f"{key} claims {tensor.numel()} numbers, more than the file stores for it")
        if tensor.is_floating_point() and not torch.isfinite(tensor).all():
            raise CheckpointError(f"{key} carries NaN or infinity: the training diverged or the file is damaged")
    if sum(tensor.numel() * tensor.element_size() for tensor in state.values()) > MAX_INFLATION * file_bytes:
        raise CheckpointError("its tensors share storage far beyond the file's size; refused")
