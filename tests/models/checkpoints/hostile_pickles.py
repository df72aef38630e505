"""Pickles that try something, by what they try: each writes itself around a file that it would make, were it run."""

import os
import pickle
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch


class Calls:
    """Pickles as a call, which a real unpickler makes."""

    def __init__(self, function: Callable[..., Any], *arguments: object) -> None:
        self.function, self.arguments = function, arguments

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[object, ...]]:
        return self.function, self.arguments


def short(text: str) -> bytes:
    return b"\x8c" + bytes([len(text)]) + text.encode()


def named(module: str, name: str) -> bytes:
    return short(module) + short(name) + b"\x93"


def touching(probe: Path) -> str:
    return f"open({str(probe)!r}, 'w').close()"


def deep_key() -> bytes:
    return P + b"})" + b"\x85" * 100_000 + b"Ns."


EMPTY_STORAGE = pickle.dumps(torch.zeros(4), 4)
P = b"\x80\x04"
CALL = b"\x85R."  # with what was pushed last as the only argument
RECORD = ("torch_utils.persistence", "_reconstruct_persistent_obj")


def shell(probe: Path) -> bytes:
    return short(f"touch {probe}") + CALL


def storage(length: int, raw: bytes) -> bytes:
    """The call that makes a storage out of an embedded legacy torch file."""
    number = b"J" + struct.pack("<i", length) if abs(length) < 2**31 else b"\x8a\x08" + struct.pack("<q", length)
    system = b"\x80\x02}X\x0d\x00\x00\x00little_endian\x88s."
    identity = b"\x80\x02(X\x07\x00\x00\x00storagectorch\nFloatStorage\nX\x01\x00\x00\x000X\x03\x00\x00\x00cpu"
    header = pickle.dumps(0x1950A86A20F9469CFC6C, 2) + pickle.dumps(1001, 2) + system
    data = header + identity + number + b"NtQ." + pickle.dumps(["0"], 2) + struct.pack("<q", length) + raw
    return named("torch.storage", "_load_from_bytes") + b"B" + struct.pack("<I", len(data)) + data + b"\x85R"


def tensor_of(length: int, shape: tuple[int, ...], strides: tuple[int, ...], offset: int) -> bytes:
    def pushed(value: object) -> bytes:
        return pickle.dumps(value, 2)[2:-1].replace(b"q\x00", b"")

    arguments = storage(length, bytes(4 * length)) + pushed(offset) + pushed(shape) + pushed(strides) + b"\x89}"
    return P + named("torch._utils", "_rebuild_tensor_v2") + b"(" + arguments + b"tR."


def copies_of_copies() -> bytes:
    call = storage(1000, bytes(4000))
    once = call[:-2] + b"\x94"  # the bytes, remembered as 0
    name = named("torch.storage", "_load_from_bytes")
    return P + once + b"\x85R" + (name + b"h\x00\x85R") * 100 + b"."


def sets_again_and_again() -> bytes:
    values = b"](" + b"".join(b"M" + struct.pack("<H", number) for number in range(5000)) + b"e\x94"
    name = named("builtins", "set")
    return P + name + values + b"\x85R" + (name + b"h\x00\x85R") * 500 + b"."


def part(attributes: bytes) -> bytes:
    """An object of torch's Module class with these attributes."""
    return named("torch.nn.modules.module", "Module") + b")\x81" + attributes + b"b"


def nested_modules(depth: int) -> bytes:
    before = named("torch.nn.modules.module", "Module") + b")\x81}" + short("_modules") + b"}" + short("a")
    return P + before * depth + part(b"}") + b"ssb" * depth + b"."


def doubled_modules() -> bytes:
    """Sixty levels of a module whose two parts are the same module: 2^60 modules to a naive reader."""
    made = part(b"}")
    for index in range(60):
        inner = b"\x94" + named("torch.nn.modules.module", "Module") + b")\x81}" + short("_modules") + b"}"
        made += inner + short("a") + b"h" + bytes([index]) + b"s" + short("b") + b"h" + bytes([index]) + b"ssb"
    return P + made + b"."


def module_in_itself() -> bytes:
    start = named("torch.nn.modules.module", "Module") + b")\x81\x94}" + short("_modules")
    return P + start + b"}" + short("a") + b"h\x00ssb."


NOTHING = "no tensors of a network"  # read as data, and there is none

# name: (the file's bytes, what the refusal says)
HOSTILE: dict[str, tuple[Callable[[Path], bytes], str]] = {
    "os.system": (lambda p: pickle.dumps({"G_ema": Calls(os.system, f"touch {p}")}), NOTHING),
    "eval": (lambda p: pickle.dumps({"G_ema": Calls(eval, touching(p))}), NOTHING),
    "exec": (lambda p: pickle.dumps([Calls(exec, touching(p))]), NOTHING),
    "getattr": (lambda p: pickle.dumps(Calls(getattr, Calls(__import__, "os"), "system")), NOTHING),
    "protocol 0": (lambda p: pickle.dumps(Calls(eval, touching(p)), 0), NOTHING),
    "dotted name": (lambda p: P + named("torch", "os.system") + shell(p), NOTHING),
    "inside an allowed module": (lambda p: P + named("numpy", "load") + short(str(p)) + CALL, NOTHING),
    "a module's own loader": (lambda p: P + named("torch", "load") + short(str(p)) + CALL, NOTHING),
    "a class of torch.nn with arguments": (
        lambda p: P + named("torch.nn.modules.linear", "Linear") + b"K\x02K\x02\x86R.", NOTHING),
    "a function of torch.nn": (
        lambda p: P + named("torch.nn.modules.module", "os.system") + shell(p), NOTHING),
    "inst": (lambda p: b"\x80\x02(Vtouch " + str(p).encode() + b"\nios\nsystem\n.", NOTHING),
    "inst first": (lambda p: b"\x80\x02(ios\nsystem\n.", NOTHING),
    "obj": (lambda p: b"\x80\x02(" + named("os", "system") + b"o.", NOTHING),
    "obj of an allowed name": (lambda p: b"\x80\x04(" + named("collections", "OrderedDict") + b"o.", NOTHING),
    "ext1": (lambda p: b"\x80\x02\x82\x01.", "opcode EXT1"),
    "ext4": (lambda p: b"\x80\x02\x84\x01\x00\x00\x00.", "opcode EXT4"),
    "newobj_ex": (lambda p: P + named("dnnlib.util", "EasyDict") + b")}\x92.", NOTHING),
    "persistent id": (lambda p: b"\x80\x04\x8c\x01xQ.", "opcode BINPERSID"),
    "text persistent id": (lambda p: b"\x80\x02Pos\n.", "opcode PERSID"),
    "setstate on a record": (
        lambda p: P + named("torch.nn", "Module") + b")\x81" + short("state") + b"b.", NOTHING),
    "build on a name": (
        lambda p: P + named(*RECORD) + b"}b.", NOTHING),
    "build on a tensor": (lambda p: EMPTY_STORAGE[:-1] + b"}b.", NOTHING),
    "a name called from data": (lambda p: P + short("os.system") + short("ls") + b"\x85R.", NOTHING),
    "a storage that calls": (
        lambda p: pickle.dumps(Calls(torch.storage._load_from_bytes, pickle.dumps(Calls(eval, touching(p))))),
        "damaged"),
    "a zip as storage": (lambda p: pickle.dumps(Calls(torch.storage._load_from_bytes, b"PK\x03\x04" * 9)), "damaged"),
    "a dtype of objects": (lambda p: pickle.dumps({"a": np.array([object], dtype=object)}), NOTHING),
    "a name as a size": (lambda p: pickle.dumps(np.dtype("S1000000000")), NOTHING),
    "a tensor beyond its storage": (lambda p: tensor_of(2, (4,), (1,), 0), "more than the file stores"),
    "a tensor at a far place": (lambda p: tensor_of(4, (2,), (1,), 10**12), "outside its storage"),
    "a tensor with strides of 0": (lambda p: tensor_of(4, (10**6, 10**6), (0, 0), 0), "more than the file stores"),
    "a tensor with negative strides": (lambda p: tensor_of(4, (2,), (-1,), 1), "damaged"),
    "a storage longer than the file": (lambda p: P + storage(10**12, b"") + b".", "not all there"),
    "a storage of negative length": (lambda p: P + storage(-1, b"") + b".", "storage that is none"),
    "bytes longer than the file": (lambda p: b"\x80\x04\x8e" + struct.pack("<Q", 2**62) + b"ab.", "damaged"),
    "a bytearray longer than the file": (lambda p: b"\x80\x05\x96" + struct.pack("<Q", 2**40) + b"ab.", "damaged"),
    "text longer than the file": (lambda p: b"\x80\x04\x8d" + struct.pack("<Q", 2**40) + b"ab.", "damaged"),
    "a memo index of four billion": (lambda p: b"\x80\x04Nr\xff\xff\xff\xff0.", "damaged"),
    "an unknown memo index": (lambda p: b"\x80\x04h\x07.", "damaged"),
    "copies of copies": (lambda p: copies_of_copies(), "far more than the file's size"),
    "sets of sets": (lambda p: sets_again_and_again(), "far more than the file's size"),
    "endless steps": (lambda p: P + b"N" * 200_010 + b".", "more steps than"),
    "a deep key": (lambda p: deep_key(), NOTHING),
    "modules within modules": (lambda p: nested_modules(100), "without end"),
    "the same module everywhere": (lambda p: doubled_modules(), "without end"),
    "a network that contains itself": (lambda p: module_in_itself(), "without end"),
    "a parameter that is none": (
        lambda p: P + part(b"}" + short("_parameters") + b"}" + short("w") + b"K\x01ss") + b".",
        "'w' is a int, no tensor"),
    "parameters that are none": (
        lambda p: P + part(b"}" + short("_parameters") + b"]s") + b".", "_parameters are no dict"),
    "a record without a state": (
        lambda p: P + named(*RECORD) + b"}\x85R.", "damaged"),
    "tensorflow": (
        lambda p: b"\x80\x03cdnnlib.tflib.network\nNetwork\n)\x81.", "a TensorFlow network .'dnnlib.tflib"),
    "old tensorflow": (lambda p: b"\x80\x03cnetwork\nNetwork\n)\x81.", "a TensorFlow network"),
    "no generator": (lambda p: b"\x80\x04}" + short("D") + part(b"}") + b"s.", NOTHING),
    "nothing but a protocol": (lambda p: b"\x80\x04", "damaged"),
    "an empty stack": (lambda p: b"\x80\x04.", "damaged"),
    "an unknown opcode": (lambda p: b"\x80\x04\xff.", "damaged"),
    "items without a dict": (lambda p: b"\x80\x04K\x01K\x02K\x03s.", "without a dict"),
    "a mark that is missing": (lambda p: b"\x80\x04K\x01t.", "damaged"),
    "a list that contains itself": (lambda p: b"\x80\x04]\x94h\x00a.", NOTHING),
    "a dict that contains itself": (lambda p: b"\x80\x04}\x94\x8c\x01ah\x00s.", NOTHING),
}  # fmt: skip
