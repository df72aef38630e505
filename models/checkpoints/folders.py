"""Where training repositories put the generator's weights and what they write next to them about the network.

A folder of a known layout is read as its newest generator, the running average first; the config file that belongs to
it, or to a file of a known name, goes along. Config files are JSON or YAML, read as plain values only.
"""

import contextlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import yaml

from models.checkpoints.pyramid import read_pyramid
from models.checkpoints.read import Checkpoint, CheckpointError, read
from models.checkpoints.runs import read_run
from models.checkpoints.shards import find_index, read_shards

MAX_CONFIG_BYTES = 2**20


@dataclass(frozen=True)
class FolderLayout:
    """How one repository names its files.

    `weights` are patterns, the preferred first; of files that fit the same, the one with the highest number counts.
    `configs` are globs. `inside` are folders below that hold the weights.
    """

    repository: str
    weights: tuple[str, ...]
    configs: tuple[str, ...] = ()
    inside: tuple[str, ...] = ()


LAYOUTS = (
    FolderLayout(
        "huggingface/pytorch-pretrained-BigGAN", (r"model\.safetensors", r"pytorch_model\.bin"), ("config.json",)
    ),
    FolderLayout(
        "POSTECH-CVLab/PyTorch-StudioGAN",
        tuple(rf"model={net}-{when}-weights-step=(\d+)\.pth" for net in ("G_ema", "G") for when in ("best", "current")),
        ("*.yaml", "*.yml"),
    ),
    FolderLayout("kwotsin/mimicry", (r"netG_(\d+)_steps\.pth",), inside=("checkpoints/netG", "netG")),
    FolderLayout("lucidrains", (r"model_(\d+)\.pt",), (".config.json",)),
    FolderLayout("martinarjovsky/WassersteinGAN", (r"netG_epoch_(\d+)\.pth",), ("generator_config.json",)),
    FolderLayout("ajbrock/BigGAN-PyTorch", (r"G_ema\.pth", r"G_ema_best(\d*)\.pth", r"G\.pth", r"G_best(\d*)\.pth")),
)


def read_at(path: Path, arch: str = "auto", key: str | None = None) -> Checkpoint:
    """The checkpoint at `path`, a file or a folder, with what the config next to it says.

    A folder is one of a known layout, of shards, an unpacked torch file, a pyramid, or the folder of a run.

    Raises:
        CheckpointError: as `read.read` does; a folder of no known layout; a config that cannot be read.
    """
    if path.exists() and not path.is_file() and not path.is_dir():
        raise CheckpointError(f"{path.name}: a pipe or a device, no file")
    if (index := find_index(path)) is not None:
        return read_shards(index, arch, key)
    found = find_config(path)
    if found is not None:
        weights, config = found
        checkpoint = read(weights, arch, key)
        notes = (f"{weights.relative_to(path)} of the folder",) if path.is_dir() else ()
        checkpoint = replace(checkpoint, config={**config, **checkpoint.config}, notes=(*notes, *checkpoint.notes))
        if path.is_file() or checkpoint.known:
            return checkpoint
    if path.is_file() or not path.exists():
        return read(path, arch, key)
    if (unpacked := _unpacked(path)) is not None:
        return read(unpacked, arch, key)
    with contextlib.suppress(CheckpointError):  # numbered files may be snapshots, too
        return read_pyramid(path)
    try:
        return read_run(path, arch, key)
    except CheckpointError:
        if found is not None:
            return checkpoint
        raise


def _unpacked(folder: Path) -> Path | None:
    """The folder that a torch file was unpacked to: this one, or the only one in it that is."""
    folders = [folder, *(inner for inner in sorted(folder.iterdir()) if inner.is_dir())]
    fitting = [inner for inner in folders if (inner / "data.pkl").is_file()]
    return fitting[0] if fitting[:1] == [folder] or len(fitting) == 1 else None


def find_config(path: Path) -> tuple[Path, Mapping[str, object]] | None:
    """(the file with the weights, what its config says; empty if there is none); None: `path` fits no layout.

    Raises:
        CheckpointError: the config is no JSON or YAML mapping, there are several, or it names what is not read.
    """
    for layout in LAYOUTS:
        weights = _weights(path, layout)
        if weights is not None:
            return weights, _config(weights.parent, layout)
    return None


def _weights(path: Path, layout: FolderLayout) -> Path | None:
    if path.is_file():
        return path if any(re.fullmatch(pattern, path.name) for pattern in layout.weights) else None
    folders = [path, *(path / name for name in layout.inside)]
    files = [file for folder in folders if folder.is_dir() for file in sorted(folder.iterdir()) if file.is_file()]
    for pattern in layout.weights:
        fitting = [(found, file) for file in files if (found := re.fullmatch(pattern, file.name))]
        if fitting:
            return max(fitting, key=lambda pair: _number(pair[0]))[1]
    return None


def _number(found: re.Match[str]) -> int:
    return int(found[1]) if found.groups() and found[1] else 0


def _config(folder: Path, layout: FolderLayout) -> Mapping[str, object]:
    files = [file for glob in layout.configs for file in sorted(folder.glob(glob)) if file.is_file()]
    if not files:
        return {}
    if len(files) > 1:
        raise CheckpointError(
            f"{folder.name}: which config belongs to the weights, {_names(files)}? Keep that one here"
        )
    config = _mapping(files[0])
    model = config.get("MODEL")
    backbone = model.get("backbone") if isinstance(model, Mapping) else None
    if backbone in ("stylegan2", "stylegan3"):
        raise CheckpointError(f"{files[0].name}: StudioGAN's own copy of {backbone}, which is not read")
    return config


def _mapping(file: Path) -> Mapping[str, object]:
    try:
        if file.stat().st_size > MAX_CONFIG_BYTES:
            raise CheckpointError(f"{file.name}: a config of {file.stat().st_size} bytes, {MAX_CONFIG_BYTES} at most")
        text = file.read_text("utf-8")
        found = json.loads(text) if file.suffix == ".json" else yaml.safe_load(text)
    except (OSError, ValueError, RecursionError, yaml.YAMLError) as error:
        line = (str(error).splitlines() or [type(error).__name__])[0]
        raise CheckpointError(f"{file.name} next to the weights cannot be read: {line[:160]}") from None
    if not isinstance(found, Mapping):
        raise CheckpointError(f"{file.name} next to the weights holds a {type(found).__name__}, not settings by name")
    return {str(key): value for key, value in found.items()}


def _names(files: Sequence[Path]) -> str:
    return " or ".join(file.name for file in files)
