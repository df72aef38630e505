"""Files from people's disks are read as what they are, or refused with a sentence that helps; nothing in them runs."""

import json
import os
import pickle
import resource
import sys
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from models.architecture import ArchitectureError
from models.catalogue import build, recognise
from models.checkpoints import networks
from models.checkpoints.folders import read_at
from models.checkpoints.read import CheckpointError
from tests.models.all_cases import CASES
from tests.models.cases.base import ready
from tests.models.checkpoints.field_files import READ, REFUSED
from tests.models.checkpoints.field_networks import AVERAGE, LISTED, PARAMETERS, RAW, D, E, G, below, both
from tests.models.checkpoints.hostile_pickles import Calls

LATENT = torch.randn(2, 5, generator=torch.Generator().manual_seed(1))


def pictured(path: Path, key: str | None = None) -> Tensor:
    """Two images of the generator at `path`."""
    found = read_at(path, key=key)
    name, generator = build(found.state, config=found.config)
    assert name == "dcgan"
    image: Tensor = generator.network(LATENT)
    return image


def expected(network: nn.Module) -> Tensor:
    with torch.no_grad():
        image: Tensor = network(LATENT[:, :, None, None])
    return image


@pytest.mark.parametrize("name", READ)
def test_the_generator_is_read_with_its_own_numbers(tmp_path: Path, name: str) -> None:
    write, network = READ[name]
    path = tmp_path / "netG.pth"
    write(path)
    torch.testing.assert_close(pictured(path), expected(network), rtol=0, atol=1e-5)


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_not_read_is_refused_with_a_sentence_that_helps(tmp_path: Path, name: str) -> None:
    write, sentence = REFUSED[name]
    path = tmp_path / "netG.pth"
    write(path)
    with pytest.raises((CheckpointError, ArchitectureError), match=sentence) as caught:
        pictured(path)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 500


@pytest.mark.parametrize(
    ("key", "network"),
    [("netG", RAW), ("netG_EMA", AVERAGE), ("best", RAW), ("all.inner.netG_EMA", AVERAGE), ("inner.netG", RAW)],
)
def test_a_key_says_which_network_is_meant(tmp_path: Path, key: str, network: nn.Module) -> None:
    path = tmp_path / "netG.pth"
    torch.save({"all": {"inner": {"netG": G, "netG_EMA": E}}, "best": G}, path)
    torch.testing.assert_close(pictured(path, key), expected(network), rtol=0, atol=1e-5)


def test_a_key_may_be_a_prefix_or_the_place_of_a_list(tmp_path: Path) -> None:
    path = tmp_path / "netG.pth"
    listed = {"shadow_params": LISTED}
    torch.save({"state_dict": {**below("G_A.", G), **below("G_B.", E)}, "x": listed}, path)
    for key, network in (("G_A", RAW), ("state_dict.G_B", AVERAGE)):
        torch.testing.assert_close(pictured(path, key), expected(network), rtol=0, atol=1e-5)
    with pytest.raises(CheckpointError, match=r"--key G_C: no network of that name; the file has .*state_dict\.G_A"):
        read_at(path, key="G_C")


@pytest.mark.parametrize("form", ["prefixes", "list", "dict"])
@pytest.mark.parametrize(
    "name",
    ["stylegan2", "biggan-deep", "biggan", "mlp-yunjey", "rrdb-x4", "unet", "fastgan", "sngan-cosgrove"],
)
def test_every_kind_of_network_is_found_with_its_average(tmp_path: Path, name: str, form: str) -> None:
    """Buffers of all kinds, tensors of two names, architectures that ignore tensors of others, counters, prefixes."""
    network = ready(CASES[name])
    before = {f"netG.{key}": value for key, value in network.state_dict().items()}
    average = {key: value * 1.25 for key, value in network.named_parameters()}
    parts: dict[str, object] = {
        "prefixes": {
            **before,
            **{f"G_ema.module.{key}": value * 1.25 for key, value in network.state_dict().items()},
            **below("module.netD.", D),
            "G_ema.steps": torch.tensor(3),
        },
        "list": [before, {"shadow_params": list(average.values())}],
        "dict": {"state_dict": before, "ema": {f"module.{key}": value for key, value in average.items()}},
    }
    torch.save(parts[form], tmp_path / "a.pth")
    found = read_at(tmp_path / "a.pth")
    assert recognise(found.state) == (CASES[name].architecture,)
    first, wanted = next(iter(average.items()))
    torch.testing.assert_close(next(value for key, value in found.state.items() if key.endswith(first)), wanted)


@pytest.mark.parametrize(
    ("average", "sentence"),
    [
        ({key: value for key, value in PARAMETERS.items() if key != "main.3.weight"}, "in ema what seems to be"),
        (LISTED[:-1], "ema is a list of 6, which are not the 7 parameters of netG"),
    ],
    ids=["dict", "list"],
)
def test_an_average_that_does_not_fit_stops_the_raw_one_from_being_taken(
    tmp_path: Path, average: object, sentence: str
) -> None:
    path = tmp_path / "a.pth"
    torch.save({"netG": G, "ema": average}, path)
    with pytest.raises(CheckpointError, match=rf"{sentence}.*--key \w+ takes"):
        read_at(path)
    torch.testing.assert_close(pictured(path, "netG"), expected(RAW), rtol=0, atol=1e-5)


@pytest.mark.parametrize("name", ["two copies, ema", "shadow list", "averaged model", "names without dots"])
def test_it_is_said_that_the_average_was_taken(tmp_path: Path, name: str) -> None:
    write, _ = READ[name]
    write(tmp_path / "netG.pth")
    assert "the running average" in " ".join(read_at(tmp_path / "netG.pth").notes)


def test_what_was_taken_off_the_keys_is_said(tmp_path: Path) -> None:
    path = tmp_path / "a.ckpt"
    torch.save({"state_dict": both()}, path)
    assert read_at(path).notes == ("taken from key state_dict", "prefix generator. taken off every key")


def test_an_architecture_that_is_asked_for_is_looked_for(tmp_path: Path) -> None:
    path = tmp_path / "a.ckpt"
    torch.save({"one": {"module." + key: value for key, value in G.items()}, "two": D}, path)
    assert read_at(path, arch="dcgan").known
    with pytest.raises(CheckpointError, match="several networks, and none is a known generator"):
        read_at(path, arch="rrdb")


def test_no_class_of_a_file_is_imported_and_nothing_runs(tmp_path: Path) -> None:
    """A module that touches a file when it is imported, named by objects of every kind in the file."""
    (tmp_path / "trap_module.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w').close()\n")
    sys.path.insert(0, str(tmp_path))
    try:
        calls = b"ctrap_module\nrun\n)R" + b"ctrap_module\nThing\n)\x81}b" + b"(itrap_module\nOld\n"
        for start in (b"\x80\x02", b"\x80\x04"):
            (tmp_path / "a.pkl").write_bytes(start + b"](" + calls + b"e.")
            with pytest.raises(CheckpointError, match="no tensors"):
                read_at(tmp_path / "a.pkl")
    finally:
        sys.path.remove(str(tmp_path))
    assert not (tmp_path / "ran").exists()
    assert "trap_module" not in sys.modules


def zipped(path: Path, top: bytes, **records: bytes) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a/data.pkl", top)
        for name, record in records.items():
            archive.writestr(f"a/data/{name}", record)
    return path


IDENTITY = b"(X\x07\x00\x00\x00storagectorch\nFloatStorage\nX\x01\x00\x00\x000X\x03\x00\x00\x00cpu"


def tensor_of(shape: bytes, strides: bytes, length: bytes = b"K\x04") -> bytes:
    made = b"ctorch._utils\n_rebuild_tensor_v2\n(" + IDENTITY + length + b"tQK\x00" + shape + strides
    return b"\x80\x02}X\x01\x00\x00\x00a" + made + b"\x89}tRs."


@pytest.mark.parametrize(
    ("data", "sentence"),
    [
        (tensor_of(b"J\x00\x00\x00\x40J\x00\x00\x00\x40\x86", b"K\x00K\x00\x86"), "more than the file stores"),
        (tensor_of(b"K\x02\x85", b"J\x00\x00\x00\x70\x85"), "outside its storage"),
        (tensor_of(b"K\x02\x85", b"K\x01\x85", b"J\x00\x00\x00\x70"), "a storage of 1879048192"),
        (
            tensor_of(b"K\x02\x85", b"K\x01\x85").replace(b"\x01\x00\x00\x000X", b"\x01\x00\x00\x007X"),
            "record .* is missing",
        ),
        (b"\x80\x02}X\x01\x00\x00\x00a" + b"]q\x00" + b"(h\x00e" * 50 + b"s.", "no tensors"),
        (b"\x80\x02]q\x00" + b"".join(b"]q%c(h%ch%ce" % (n, n - 1, n - 1) for n in range(1, 120)) + b".", "no tensors"),
        (b"\x80\x02" + b"]" * 50_000 + b"a" * 49_999 + b".", "no tensors"),
        (b"\x80\x02" + b"}X\x01\x00\x00\x00a" * 3000 + b"N" + b"s" * 3000 + b".", "no tensors"),
    ],
    ids=[
        "strides of 0",
        "far strides",
        "a long storage",
        "no record",
        "cycles",
        "memo bomb",
        "deep lists",
        "deep dicts",
    ],
)
def test_hostile_torch_files_cost_little_and_are_refused(tmp_path: Path, data: bytes, sentence: str) -> None:
    path = zipped(tmp_path / "a.pth", data, **{"0": bytes(16)})
    peak_kib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(CheckpointError, match=sentence):
        read_at(path)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss < peak_kib + 100_000


def test_a_torch_file_with_any_byte_changed_is_read_or_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.pth"
    torch.save({"netG": G, "opt": [1, 2.5, {"x": (1, 2)}]}, path)
    whole = path.read_bytes()
    random = np.random.RandomState(0)
    for place in random.randint(0, len(whole), 60):
        path.write_bytes(whole[:place] + bytes([random.randint(256)]) + whole[place + 1 :])
        try:
            found = read_at(path)
        except CheckpointError:
            continue
        assert all(torch.isfinite(value).all() for value in found.state.values())


def test_a_file_of_endless_groups_is_refused_in_bounded_time(tmp_path: Path) -> None:
    path = tmp_path / "a.pth"
    torch.save({str(n): {"a.weight": G["main.0.weight"], "b.weight": G["main.0.weight"]} for n in range(3000)}, path)
    with pytest.raises(CheckpointError, match="too many groups of tensors"):
        read_at(path)


SHARED = b"\x80\x04}(" + b"".join(b"\x8c\x05%05dN" % n for n in range(20_000)) + b"u\x940"  # a dict, to be used again
TEXT = b"\x80\x04X\x00\x00\x01\x00" + b"a" * 2**16 + b"\x940"


def colliding(number: int) -> bytes:
    """An entry whose key has the hash of all others."""
    return b"\x8a\x0c" + (number * (2**61 - 1)).to_bytes(12, "little") + b"N"


def arrays_of_the_same_bytes() -> bytes:
    data, dtype = bytes(2**18), np.dtype(">f4")
    made: Any = np.zeros(3).__reduce_ex__(5)[0]  # numpy's own function
    return pickle.dumps([Calls(made, data, dtype, (256, 256), "C") for _ in range(1000)], 4)


@pytest.mark.parametrize(
    ("data", "sentence"),
    [
        (SHARED + b"cx\nY\n)R" + b"h\x00b" * 10_000 + b".", "more steps"),
        (SHARED + b"ccopyreg\n_reconstructor\n(cx\nY\ncx\nY\nh\x00tR0" * 10_000 + b".", "more steps"),
        (TEXT + b"h\x00h\x00\x93" * 100_000 + b".", "a name that is no text of at most"),
        (SHARED + b"h\x00h\x00\x93.", "a name that is no text of at most"),
        (TEXT + b"(" + b"h\x00" * 1000 + b"t\x940}(" + b"h\x01}" * 20_000 + b"u.", "no tensors"),
        (b"\x80\x04}(" + b"".join(map(colliding, range(30_000))) + b"u.", "no tensors"),
        (arrays_of_the_same_bytes(), "far more than the file's size"),
        (tensor_of(b"(" + b"K\x01" * 1000 + b"t", b"(" + b"K\x01" * 1000 + b"t"), "1000 dimensions"),
        (b"\x80\x02}X\x00\x00\x01\x00" + b"a" * 2**16 + b"]s.", "65536 characters"),
    ],
    ids=[
        "attributes again",
        "entries again",
        "long names",
        "a name that is a dict",
        "long keys in a tuple",
        "numbers of one hash",
        "arrays",
        "dimensions",
        "a long key",
    ],
)  # fmt: skip
def test_what_is_used_again_and_again_costs_what_it_is_worth(tmp_path: Path, data: bytes, sentence: str) -> None:
    test_hostile_torch_files_cost_little_and_are_refused(tmp_path, data, sentence)


def test_a_state_dict_of_many_parts_is_looked_at_in_one_pass(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    weight = torch.zeros(2, 2)
    looked: list[object] = []

    def look(part: object) -> bool:
        looked.append(part)
        return True

    torch.save({f"l{n}.a.weight": weight for n in range(300)}, tmp_path / "a.pth")
    monkeypatch.setattr(networks, "_is_network_like", look)
    with pytest.raises(ArchitectureError, match="no known generator"):
        build(read_at(tmp_path / "a.pth").state)
    assert len(looked) == 300


def test_more_weights_than_any_network_has_are_refused(tmp_path: Path) -> None:
    torch.save([torch.zeros(1, 1)] * 20_001, tmp_path / "a.pth")
    with pytest.raises(CheckpointError, match="more than 20000 weights"):
        read_at(tmp_path / "a.pth")


def test_pipes_and_endless_names_in_a_folder_keep_nobody_waiting(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "netG.pth")
    with pytest.raises(CheckpointError, match="a pipe or a device"):
        read_at(tmp_path / "netG.pth")
    os.mkfifo(tmp_path / "model.safetensors.index.json")
    os.mkfifo(tmp_path / "config.json")
    torch.save(G, tmp_path / "pytorch_model.bin")
    assert read_at(tmp_path).known
    long = tmp_path / "long.bin.index.json"
    long.write_text(json.dumps({"weight_map": {"a": "x" * 5000}}))
    with pytest.raises(CheckpointError, match="names no files of its own folder"):
        read_at(long)
