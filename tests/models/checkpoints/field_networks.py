"""One small generator and its average, and the ways in which people save them: the pieces of `field_files`."""

import argparse
import collections
import datetime
import enum
import io
import itertools
import json
import pathlib
import pickle
import random
import sys
import types
import warnings
import zipfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from tests.models.cases.base import trained

Write = Callable[[pathlib.Path], object]


class Generator(nn.Module):
    """A DCGAN of 16 px."""

    def __init__(
        self,
        wrap: Callable[[nn.Module], nn.Module] = lambda layer: layer,
        last: type[nn.Module] = nn.Tanh,
        eps: float = 1e-5,
        widths: tuple[int, ...] = (5, 8, 4, 3),
    ) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for place, (before, after) in enumerate(itertools.pairwise(widths[:-1])):
            layers += [wrap(nn.ConvTranspose2d(before, after, 4, 2 if place else 1, 1 if place else 0, bias=False))]
            layers += [nn.BatchNorm2d(after, eps), nn.ReLU(True)]
        image = nn.ConvTranspose2d(widths[-2], widths[-1], 4, 2, 1, bias=False)
        self.main = nn.Sequential(*layers, wrap(image), last())

    def forward(self, latent: Tensor) -> Tensor:
        image: Tensor = self.main(latent)
        return image


class Discriminator(nn.Module):
    """Its critic."""

    def __init__(self) -> None:
        super().__init__()
        self.main = nn.Sequential(
            *(nn.Conv2d(3, 4, 4, 2, 1, bias=False), nn.LeakyReLU(0.2), nn.Conv2d(4, 8, 4, 2, 1, bias=False)),
            *(nn.BatchNorm2d(8), nn.LeakyReLU(0.2), nn.Conv2d(8, 1, 4, 1, 0, bias=False)),
        )


class Gan(nn.Module):
    """A training module: both networks, as LightningModules hold them."""

    def __init__(self, generator: str = "generator", discriminator: str = "discriminator") -> None:
        super().__init__()
        self.add_module(generator, Generator())
        self.add_module(discriminator, Discriminator())


class Config:
    """A class that only its author has."""

    def __init__(self, **values: object) -> None:
        vars(self).update(values)


class Shadow:
    """An average as many write it: an object with a dict of parameters."""

    def __init__(self, shadow: Mapping[str, Tensor]) -> None:
        self.decay, self.shadow = 0.999, dict(shadow)


class Kind(enum.Enum):
    """An enumeration of theirs."""

    GAN = 1


@contextmanager
def named(module: str, *classes: type) -> Iterator[None]:
    """The classes as if defined in a module that nobody else has."""
    before = {made: made.__module__ for made in classes}
    sys.modules[module] = types.ModuleType(module)
    for made in classes:
        made.__module__ = module
        setattr(sys.modules[module], made.__name__, made)
    try:
        yield
    finally:
        del sys.modules[module]
        for made, name in before.items():
            made.__module__ = name


def ready(network: nn.Module, shift: float = 0.0) -> nn.Module:
    """With weights as after training."""
    network.load_state_dict(
        {key: value + shift if value.ndim > 1 else value for key, value in trained(network).items()}
    )
    return network.eval().requires_grad_(False)


RAW = ready(Generator())
AVERAGE = ready(Generator(), 0.05)
G, E = dict(RAW.state_dict()), dict(AVERAGE.state_dict())
D = dict(ready(Discriminator()).state_dict())
PARAMETERS = {key: E[key] for key, _ in AVERAGE.named_parameters()}
LISTED = list(PARAMETERS.values())
OPTIMIZER = {
    "state": {place: {"step": 1, "exp_avg": value, "exp_avg_sq": value} for place, value in enumerate(LISTED)},
    "param_groups": [{"lr": 2e-4, "betas": (0.5, 0.999), "params": list(range(len(LISTED)))}],
}


def below(prefix: str, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {prefix + key: value for key, value in state.items()}


def both(
    generator: str = "generator.", discriminator: str = "discriminator.", state: Mapping[str, Tensor] = G
) -> dict[str, Tensor]:
    return {**below(generator, state), **below(discriminator, D)}


def saved(found: object, **options: Any) -> Write:
    """torch.save, with the classes of this file as somebody else's."""

    def write(path: pathlib.Path) -> None:
        with named("somebodys_code", Generator, Discriminator, Gan, Config, Shadow, Kind), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            torch.save(found, path, **options)

    return write


def pickled(found: object, protocol: int) -> Write:
    def write(path: pathlib.Path) -> None:
        with named("somebodys_code", Generator, Discriminator, Gan, Config, Shadow, Kind):
            path.write_bytes(pickle.dumps(found, protocol))

    return write


def tensors(state: Mapping[str, Tensor]) -> Write:
    return lambda path: save_file({key: value.contiguous().clone() for key, value in state.items()}, path)


def in_folder(files: Mapping[str, Write]) -> Write:
    def write(path: pathlib.Path) -> None:
        for name, one in files.items():
            (path / name).parent.mkdir(parents=True, exist_ok=True)
            one(path / name)

    return write


def text(content: str) -> Write:
    return lambda path: path.write_text(content)


def scripted(network: nn.Module, freeze: bool = False) -> Write:
    def write(path: pathlib.Path) -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            made = torch.jit.trace(  # type: ignore[no-untyped-call]
                network, torch.zeros(2, 5, 1, 1)
            )
            (torch.jit.freeze(made) if freeze else made).save(str(path))

    return write


def unpacked(found: object) -> Write:
    def write(path: pathlib.Path) -> None:
        buffer = io.BytesIO()
        torch.save(found, buffer)
        with zipfile.ZipFile(buffer) as archive:
            for name in archive.namelist():
                target = path / name.partition("/")[2]
                target.parent.mkdir(parents=True, exist_ok=True)
                target.write_bytes(archive.read(name))

    return write


def sharded(state: Mapping[str, Tensor], stem: str, suffix: str, missing: bool = False, besides: str = "") -> Write:
    def write(path: pathlib.Path) -> None:
        path.mkdir()
        keys = list(state)
        halves = {f"{stem}-0000{number}-of-00002.{suffix}": keys[number - 1 :: 2] for number in (1, 2)}
        for name, some in list(halves.items())[: 1 if missing else 2]:
            part = {key: state[key].contiguous().clone() for key in some}
            save_file(part, path / name) if suffix == "safetensors" else torch.save(part, path / name)
        index: dict[str, dict[str, object]] = {
            "metadata": {"total_size": 1},
            "weight_map": {key: name for name, some in halves.items() for key in some},
        }
        if besides:
            index["weight_map"][besides] = next(iter(halves))
        (path / f"{stem}.{suffix}.index.json").write_text(json.dumps(index))

    return write


def attached(wrap: Callable[[nn.Module], nn.Module]) -> nn.Module:
    """A generator with a normalisation on every layer, after a step of training."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        network = Generator(wrap, widths=(5, 8, 8, 3))
    state = {
        key: value
        for key, value in trained(network).items()
        if not key.endswith(("_u", "_v")) or "weight_g" in str(list(network.state_dict()))
    }
    network.load_state_dict(state, strict=False)
    with torch.no_grad():
        network.train()(torch.randn(4, 5, 1, 1, generator=torch.Generator().manual_seed(0)))
    return network.eval()


def damaged(path: pathlib.Path) -> None:
    """One byte of a tensor is another."""
    torch.save(G, path)
    data = bytearray(path.read_bytes())
    place = data.find(G["main.3.weight"].numpy().tobytes()[:16])
    data[place + 3] ^= 0x40
    path.write_bytes(data)


def wrapped(depth: int, found: object) -> object:
    for level in range(depth):
        found = [{f"level{level}": found, "n": level}, (found, None), [None, found, "text"]][level % 3]
    return found


SPECTRAL_OLD = attached(nn.utils.spectral_norm)
SPECTRAL_NEW = attached(nn.utils.parametrizations.spectral_norm)
with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    WEIGHT_OLD = attached(nn.utils.weight_norm)
WEIGHT_NEW = attached(nn.utils.parametrizations.weight_norm)
SIGMOID = ready(Generator(last=nn.Sigmoid))
WIDE_EPS = ready(Generator(eps=0.3))
GAN = Gan()
GAN.load_state_dict(both())
OPTIONS = Config(lr=1e-3, nested=Config(path=pathlib.PurePosixPath("runs"), when=datetime.datetime(2024, 1, 2)))
OBJECTS = {
    "fid": np.float64(12.5),
    "losses": np.arange(5.0),
    "names": np.array(["a", None], dtype=object),
    "words": np.array(["a", "b"]),
    "when": datetime.datetime(2024, 1, 1, tzinfo=datetime.UTC),
    "took": datetime.timedelta(seconds=5),
    "history": collections.defaultdict(list, loss=[1.0]),
    "counter": collections.Counter("abc"),
    "queue": collections.deque([1, 2]),
    "args": argparse.Namespace(lr=0.1, kind=Kind.GAN),
    "out": pathlib.PurePosixPath("runs"),
    "rng": {"python": random.getstate(), "numpy": np.random.RandomState(0).get_state(), "torch": torch.get_rng_state()},
    "generator_of_numbers": np.random.default_rng(0),
    "set": {1, 2},
    "frozen": frozenset({"a"}),
    "complex": 1 + 2j,
    "big": 10**40,
    "slice": slice(1, 2),
    "bytes": b"\x00\xff",
    "array": bytearray(b"abc"),
    "device": torch.device("cpu"),
    "dtype": torch.float16,
    "size": torch.Size([1, 2]),
    ("a", 1): Kind.GAN,
    Kind.GAN: 1.5,
    2.5: None,
}
