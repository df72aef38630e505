"""Writes what NVIDIA's training code writes: networks as records, each with the source text of its class.

The official loader executes that text; the one written here would leave a file behind.
"""

import pickle
import sys
import types
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from torch import nn

VERSION = 6


class EasyDict(dict[str, Any]):
    """As `dnnlib.util.EasyDict`: a dict whose entries are attributes too."""


def _reconstruct_persistent_obj(meta: object) -> None:
    raise AssertionError("the official loader must not be met")


@contextmanager
def official_modules() -> Iterator[None]:
    """`torch_utils.persistence` and `dnnlib.util`, for as long as something is pickled."""
    persistence, util = types.ModuleType("torch_utils.persistence"), types.ModuleType("dnnlib.util")
    vars(persistence)["_reconstruct_persistent_obj"] = _reconstruct_persistent_obj
    vars(util)["EasyDict"] = EasyDict
    before = (_reconstruct_persistent_obj.__module__, EasyDict.__module__)
    _reconstruct_persistent_obj.__module__, EasyDict.__module__ = "torch_utils.persistence", "dnnlib.util"
    parents = {name: types.ModuleType(name) for name in ("torch_utils", "dnnlib")}
    added = {**parents, "torch_utils.persistence": persistence, "dnnlib.util": util}
    sys.modules.update(added)
    try:
        yield
    finally:
        _reconstruct_persistent_obj.__module__, EasyDict.__module__ = before
        for name in added:
            del sys.modules[name]


class PersistentPickler(pickle.Pickler):
    """Pickles every module of this project as `persistence.persistent_class` has it pickled."""

    def __init__(self, file: IO[bytes], protocol: int, module_src: str) -> None:
        super().__init__(file, protocol)
        self.module_src = module_src

    def reducer_override(self, found: object) -> Any:
        if not isinstance(found, nn.Module) or type(found).__module__.startswith("torch."):
            return NotImplemented
        fields = found.__reduce_ex__(2)
        assert isinstance(fields, tuple)
        meta = {
            "type": "class",
            "version": VERSION,
            "module_src": self.module_src,
            "class_name": type(found).__name__,
            "state": fields[2],
        }
        return _reconstruct_persistent_obj, (meta,), None


def made_by(network: nn.Module, **arguments: object) -> nn.Module:
    """The network with the arguments that persistence notes on it."""
    plain = {key: EasyDict(value) if isinstance(value, dict) else value for key, value in arguments.items()}
    vars(network).update(_init_args=(), _init_kwargs=EasyDict(plain))
    return network


def write_pickle(path: Path, found: object, probe: Path, protocol: int = 4) -> Path:
    """A pickle of it; its source text, were it executed, would make `probe`."""
    with official_modules(), path.open("wb") as file:
        PersistentPickler(file, protocol, f"open({str(probe)!r}, 'w').close()\n").dump(found)
    return path


def write_snapshot(path: Path, networks: Mapping[str, object], probe: Path, protocol: int = 4) -> Path:
    """A `network-snapshot-<kimg>.pkl`."""
    data = dict(EasyDict(class_name="training.dataset.ImageFolderDataset", path="/data", resolution=8))
    return write_pickle(path, {"training_set_kwargs": data, **networks}, probe, protocol)
