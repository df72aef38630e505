"""gRPC messages that no honest client sends, for every RPC, and the statuses with which they may end."""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import grpc
import numpy as np
from google.protobuf.message_factory import GetMessageClass
from tritonclient.grpc import service_pb2 as kserve

from ganserve.v1 import images_pb2 as pb
from tests.hostile import images

Codes = frozenset[grpc.StatusCode]
Metadata = tuple[tuple[str, str | bytes], ...]
OK: Codes = frozenset({grpc.StatusCode.OK})
INVALID: Codes = frozenset({grpc.StatusCode.INVALID_ARGUMENT})
# Statuses with which a call ends whose caller must change something or has no right to it.
BLAMES_CALLER: Codes = INVALID | {
    grpc.StatusCode.NOT_FOUND,
    grpc.StatusCode.UNIMPLEMENTED,
    grpc.StatusCode.UNAUTHENTICATED,
    grpc.StatusCode.PERMISSION_DENIED,
    grpc.StatusCode.RESOURCE_EXHAUSTED,
    grpc.StatusCode.FAILED_PRECONDITION,
    grpc.StatusCode.OUT_OF_RANGE,
}
TENSORS = kserve.DESCRIPTOR.services_by_name["GRPCInferenceService"]
IMAGES = pb.DESCRIPTOR.services_by_name["ImageService"]
METHODS = {method.name: method for service in (TENSORS, IMAGES) for method in service.methods}
CONTROL = ("RepositoryModelLoad", "RepositoryModelUnload")
# The models of the test's server (conftest.py), and the image of side 2 x 2 that `tiny` takes four numbers for.
PLAIN, STYLED, UPSCALER, TRANSLATOR = "tiny", "styled", "upscaler", "translator"
FOUR = np.ones(4, np.float32).tobytes()
MANY = 1 << 20
NAMES = {
    "empty": "",
    "unknown": "nobody",
    "1 MB": "n" * MANY,
    "1 MB of bidi marks": "\u202e" * (MANY // 3),
    "control characters": "a\r\nERROR faked \x1b[2J\x00\x7f\x85",
    "parent folder": "../../etc/passwd",
    "absolute path": "/etc/passwd",
    "dots": "..",
    "percent signs": "%s%n%(x)s{0}{x.__class__}",
    "quotes": "\"'}\\\n# HELP nv_faked 1\n",
    "surrogate halves' neighbours": "\ud7ff\ue000\U0010ffff",
}
VERSIONS = {
    "negative": "-1",
    "zero": "0",
    "float": "1e0",
    "spaces": " 1 ",
    "Arabic digit": "\u0661",
    "superscript": "\u00b9",
    "underscore": "1_0",
    "100,000 digits": "9" * 100_000,
    "parent folder": "../1",
    "NUL": "1\x00",
}


@dataclass(frozen=True)
class Case:
    """One message for one RPC. `codes`: the statuses of which one must come back.

    `count`: how often the message is sent in the call, which is once in honest calls of unary RPCs.
    """

    what: str
    rpc: str
    message: bytes
    codes: Codes = INVALID
    metadata: Metadata = ()
    count: int = 1

    @property
    def id(self) -> str:
        return f"{self.rpc}: {self.what}".replace("[", "(").replace("]", ")")


def path_of(rpc: str) -> str:
    """`/service/method`."""
    return f"/{METHODS[rpc].containing_service.full_name}/{rpc}"


def send(channel: grpc.Channel, case: Case, timeout_s: float, metadata: Metadata = ()) -> grpc.StatusCode:
    """Sends the case, reads every answer, and returns the status with which the call ended.

    `metadata`: headers in addition to the case's own, which replace them.
    """
    own = {key for key, _ in case.metadata}
    headers = (*(pair for pair in metadata if pair[0] not in own), *case.metadata)
    call: Any = channel.stream_stream(path_of(case.rpc))
    try:
        for _ in call(iter([case.message] * case.count), timeout=timeout_s, metadata=headers):
            pass
    except grpc.RpcError as error:
        return error.code()
    return grpc.StatusCode.OK


def cases() -> Iterator[Case]:
    """All messages."""
    for rpc in METHODS:
        yield from _bytes_for(rpc)
        yield from _names_for(rpc)
    yield from _control()
    yield from _keys_and_metadata()
    for what, request, codes in _tensors():
        yield Case(what, "ModelInfer", request.SerializeToString(), codes)
        # A stream answers a bad request inside and goes on.
        yield Case(what, "ModelStreamInfer", request.SerializeToString(), codes | OK)
    for rpc in ("Generate", "GenerateStream"):
        for what, generate, codes in _generations():
            yield Case(what, rpc, generate.SerializeToString(), codes)
    for what, data, accepted in images.files():
        codes = {True: OK, False: INVALID, None: OK | INVALID}[accepted]
        yield Case(what, "Upscale", pb.UpscaleRequest(model=UPSCALER, image=data).SerializeToString(), codes)
        # A translator's rules about channels differ, so a good file may be refused there.
        translate = pb.TranslateRequest(model=TRANSLATOR, image=data).SerializeToString()
        yield Case(what, "Translate", translate, codes | INVALID)
    yield from _transforms()


def _bytes_for(rpc: str) -> Iterator[Case]:
    """Bytes that are no message of that type, or one with odd parts."""
    unary = not METHODS[rpc].server_streaming
    broken = {
        "bytes 0xff": b"\xff" * 40,
        "a length beyond the end": b"\x0a\xff\xff\xff\xff\x07",
        "a negative length": b"\x0a" + b"\xff" * 9 + b"\x01",
        "a key that is cut off": b"\x80",
        "field 0": b"\x00\x00",
        "200 groups that are not closed": b"\x0b" * 200,
        "an end of a group that was not opened": b"\x0c",
        "wire type 7": b"\x0f\x01",
    }
    for what, data in broken.items():
        yield Case(what, rpc, data, INVALID)
    for what, data in {
        "no bytes": b"",
        "field 1 as a number": b"\x08\x01",
        "unknown fields": b"\xc2\x3e\x40" + bytes(64),
        "100,000 unknown fields": b"\xc0\x3e\x01" * 100_000,
        "names that are not UTF-8": b"\x0a\x02\xff\xfe",
        "messages in messages, 90 deep": _nested(90),
        "messages in messages, 2,000 deep": _nested(2000),
    }.items():
        yield Case(what, rpc, data, BLAMES_CALLER | OK)
    if unary:
        # pygrpc-native answers this itself, with INTERNAL and no line in the log.
        by_library = frozenset({grpc.StatusCode.INTERNAL})
        yield Case("no message at all", rpc, b"", BLAMES_CALLER | by_library, count=0)
        yield Case("two messages", rpc, b"", BLAMES_CALLER | OK, count=2)


def _nested(depth: int) -> bytes:
    """A message in field 5 of a message in field 5, and so on: `inputs` of a ModelInfer, then nothing known."""
    data = b""
    for _ in range(depth):
        size, prefix = len(data), bytearray(b"\x2a")
        while size > 127:
            prefix.append(size & 127 | 128)
            size >>= 7
        data = bytes(prefix) + bytes([size]) + data
    return data


def _names_for(rpc: str) -> Iterator[Case]:
    """Names and versions of models that nobody has."""
    fields = METHODS[rpc].input_type.fields_by_name
    name = next((field for field in ("model_name", "model", "name", "repository_name") if field in fields), None)
    if name is None:
        return
    message: Any = GetMessageClass(METHODS[rpc].input_type)
    lenient = OK if rpc in _LENIENT else frozenset()
    for what, text in NAMES.items():
        yield Case(f"name: {what}", rpc, message(**{name: text}).SerializeToString(), BLAMES_CALLER | lenient)
    version = next((field for field in ("model_version", "version") if field in fields), None)
    if version is not None:
        for what, text in VERSIONS.items():
            request = message(**{name: PLAIN if rpc in _TENSOR_RPCS else STYLED, version: text})
            yield Case(f"version: {what}", rpc, request.SerializeToString(), BLAMES_CALLER | lenient)


# The name of no region is that of all.
_LENIENT = (
    "ModelReady", "ModelStreamInfer", "ModelStatistics", "RepositoryIndex", "SystemSharedMemoryStatus",
    "CudaSharedMemoryStatus",
)  # fmt: skip
_TENSOR_RPCS = frozenset(method.name for method in TENSORS.methods)


def _control() -> Iterator[Case]:
    """Calls of model control by a key without the right to it, whatever they hold."""
    denied: Codes = frozenset({grpc.StatusCode.PERMISSION_DENIED})
    for rpc in CONTROL:
        message: Any = GetMessageClass(METHODS[rpc].input_type)
        for name in (PLAIN, STYLED, "nobody", "..", ""):
            yield Case(f"without the right: {name!r}", rpc, message(model_name=name).SerializeToString(), denied)
        for key in ("config", "file:1/model.onnx", "unload_dependents", "x" * 10_000):
            request = message(model_name=PLAIN)
            request.parameters[key].string_param = '{"max_batch_size": 1000000000}'
            yield Case(f"without the right: {key[:20]}", rpc, request.SerializeToString(), denied)


def _keys_and_metadata() -> Iterator[Case]:
    """Headers of a good call. Lower-case `authorization` here replaces the key that the test sends."""
    good = infer().SerializeToString()
    unauthenticated: Codes = frozenset({grpc.StatusCode.UNAUTHENTICATED})
    for what, value in {
        "none": "",
        "no word Bearer": "caller",
        "no key": "Bearer ",
        "another key": "Bearer Caller",
        "two keys": "Bearer caller caller",
        "4,000 characters": "Bearer " + "k" * 4000,
        "the hash": "Bearer 7adff9b6b4e9d5a0e0a0b6d5f2b3",
    }.items():
        yield Case(f"key: {what}", "ModelInfer", good, unauthenticated, (("authorization", value),))
    headers: tuple[tuple[str, str, str | bytes], ...] = (
        ("x-request-id", "4,000 characters", "i" * 4000),
        ("x-request-id", "spaces and quotes", " \"'{}%s "),
        ("traceparent", "zeros", "00-" + "0" * 32 + "-" + "0" * 16 + "-00"),
        ("traceparent", "garbage", "ff-" + "z" * 500),
        ("tracestate", "4,000 characters", "a=" + "b" * 4000),
        ("baggage", "commas", "," * 4000),
        ("grpc-trace-bin", "garbage", bytes(range(256))),
        ("x-bin-bin", "3,000 bytes", bytes(3000)),
        ("triton_grpc_error", "yes", "yes"),
    )
    for key, what, header in headers:
        yield Case(f"{key}: {what}", "ModelInfer", good, OK, ((key, header),))


def infer(
    model: str = PLAIN, name: str = "latent", dtype: str = "FP32", shape: Any = (1, 4), raw: Any = (FOUR,)
) -> Any:
    """A request for one image of `tiny`, unless something else is given."""
    request = kserve.ModelInferRequest(model_name=model, raw_input_contents=raw)
    request.inputs.add(name=name, datatype=dtype, shape=shape)
    return request


def _tensors() -> Iterator[tuple[str, Any, Codes]]:
    """ModelInfer requests to models that there are."""
    shapes: tuple[tuple[int, ...], ...] = (
        (), (4,), (1,), (0, 4), (1, 0), (1, 5), (2, 4), (-1, 4), (1, -4), (-1, -4), (4, 1), (1, 4, 1), (1, 1, 4),
        (1 << 62, 4), (1 << 31, 1 << 33), (-(1 << 63), 4), (1, (1 << 63) - 1), (9, 4), (1 << 20, 4), (1,) * 40,
        (1,) * 5000,
    )  # fmt: skip
    for shape in shapes:
        yield f"shape {len(shape)}: {str(shape)[:40]}", infer(shape=shape), INVALID
    for dtype in ("", "fp32", "FP16", "FP64", "BF16", "BYTES", "INT64", "BOOL", "UINT8", "X" * MANY, "FP32\x00"):
        yield f"dtype {dtype[:20]!r}", infer(dtype=dtype), INVALID
    for what, name in NAMES.items():
        yield f"input's name: {what}", infer(name=name), INVALID
    for raw in (
        (),
        (b"",),
        (FOUR[:-1],),
        (FOUR + b"x",),
        (FOUR, FOUR),
        (FOUR,) * 10_000,
        (bytes(MANY),),
        (b"",) * 100_000,
    ):
        yield f"{len(raw)} raw of {len(raw[0]) if raw else 0} B", infer(raw=raw), INVALID
    for value in (math.nan, math.inf, -math.inf, 3.4e38, 1e-45):
        request = infer(raw=(np.full(4, value, np.float32).tobytes(),))
        yield f"raw values {value}", request, OK | INVALID
        typed = infer(raw=())
        typed.inputs[0].contents.fp32_contents.extend([value] * 4)
        yield f"typed values {value}", typed, OK | INVALID
        styled = infer(STYLED, shape=(1, 4), raw=(np.full(4, value, np.float32).tobytes(),))
        yield f"values {value}, of a generator", styled, OK | INVALID
    yield from _typed()
    yield from _inputs_and_outputs()
    yield from _parameters()
    yield from _image_tensors()


def _typed() -> Iterator[tuple[str, Any, Codes]]:
    """Typed contents that do not fit the tensor."""
    for field, values in {
        "bool_contents": [True] * 4,
        "int_contents": [1] * 4,
        "int64_contents": [1] * 4,
        "uint_contents": [1] * 4,
        "uint64_contents": [(1 << 64) - 1] * 4,
        "fp64_contents": [1e308] * 4,
        "bytes_contents": [b"\xff"] * 4,
        "fp32_contents": [1.0] * 3,
    }.items():
        request = infer(raw=())
        getattr(request.inputs[0].contents, field).extend(values)
        yield f"typed contents {field}", request, INVALID
        request.raw_input_contents.append(FOUR)
        yield f"raw and {field}", request, INVALID
    for count in (0, 5, 1_000_000):
        request = infer(raw=())
        request.inputs[0].contents.fp32_contents.extend([1.0] * count)
        yield f"{count} typed values", request, INVALID | {grpc.StatusCode.RESOURCE_EXHAUSTED}
    for dtype, field in (("UINT8", "uint_contents"), ("INT8", "int_contents"), ("BYTES", "bytes_contents")):
        request = infer(UPSCALER, "image", dtype, (1, 1, 1, 3), ())
        odd: Any = [b"a"] * 3 if dtype == "BYTES" else [300, 1 << 31 if dtype == "UINT8" else -(1 << 31), 1]
        getattr(request.inputs[0].contents, field).extend(odd)
        yield f"{dtype} out of range", request, INVALID
    for raw in (b"", b"\xff\xff\xff\xff", b"\xff\xff\xff\x7fab", b"\x02\x00\x00\x00a"):
        yield f"BYTES raw {raw.hex()}", infer(dtype="BYTES", shape=(1, 1), raw=(raw,)), INVALID


def _inputs_and_outputs() -> Iterator[tuple[str, Any, Codes]]:
    request = kserve.ModelInferRequest(model_name=PLAIN)
    yield "no inputs", request, INVALID
    request = infer(raw=(FOUR, FOUR))
    request.inputs.append(request.inputs[0])
    yield "the input twice", request, INVALID
    request = infer(raw=())
    request.inputs.extend([request.inputs[0]] * 5000)
    yield "the input 5,000 times", request, BLAMES_CALLER
    yield "200,000 empty inputs", kserve.ModelInferRequest.FromString(
        kserve.ModelInferRequest(model_name=PLAIN).SerializeToString() + b"\x2a\x00" * 200_000
    ), BLAMES_CALLER  # fmt: skip
    for count in (2, 6000):
        request = infer()
        for _ in range(count):
            request.outputs.add(name="image")
        yield f"the output {count} times", request, INVALID
    for what, name in NAMES.items():
        request = infer()
        request.outputs.add(name=name)
        yield f"output's name: {what}", request, INVALID
    for key in ("classification", "shared_memory_region", "binary_data"):
        request = infer()
        request.outputs.add(name="image").parameters[key].int64_param = 1 << 62
        yield f"output's parameter {key}", request, BLAMES_CALLER | OK
        request = infer()
        request.inputs[0].parameters[key].string_param = "/dev/shm/x"
        yield f"input's parameter {key}", request, BLAMES_CALLER | OK


def _parameters() -> Iterator[tuple[str, Any, Codes]]:
    """Parameters and ids of a request that is good otherwise."""
    for key in ("", "triton_", "triton_x", "sequence_id", "sequence_start", "x" * MANY, "a\nb", "priority", "headers"):
        request = infer()
        request.parameters[key].string_param = "x" * 1000
        yield f"parameter {key[:20]!r}", request, BLAMES_CALLER | OK
    for value in (-(1 << 63), -1, 0, 1, (1 << 63) - 1):
        request = infer()
        request.parameters["timeout"].int64_param = value
        yield f"timeout {value}", request, OK | {grpc.StatusCode.DEADLINE_EXCEEDED, grpc.StatusCode.INVALID_ARGUMENT}
    request = infer()
    request.parameters["timeout"].string_param = "soon"
    yield "timeout in words", request, OK | INVALID
    request = infer()
    for index in range(10_000):
        request.parameters[str(index)].bool_param = True
    yield "10,000 parameters", request, BLAMES_CALLER | OK
    for what, text in NAMES.items():
        request = infer()
        request.id = text
        yield f"id: {what}", request, OK | INVALID


def _image_tensors() -> Iterator[tuple[str, Any, Codes]]:
    """Images as tensors, which have no size of their own to check them by."""
    for height, width in ((0, 0), (0, 5), (5, 8), (8, 1), (1, 100_000), (1 << 20, 1 << 20), (20_000, 1)):
        raw = bytes(height * width * 3) if height * width < MANY else b""
        for model in (UPSCALER, TRANSLATOR):
            request = infer(model, "image", "UINT8", (1, height, width, 3), (raw,))
            yield f"tensor {height} x {width} for {model}", request, BLAMES_CALLER | OK
    for shape in ((8, 300, 300, 3), (1, 4, 4, 4), (1, 4, 4, 0), (1, 4, 4, -3), (9, 4, 4, 3)):
        raw = bytes(max(0, math.prod(shape)))
        yield f"tensor {shape}", infer(UPSCALER, "image", "UINT8", shape, (raw,)), BLAMES_CALLER | OK


def _generations() -> Iterator[tuple[str, pb.GenerateRequest, Codes]]:
    """Generate requests for a model with labels, truncation, noise and w, each wrong in one field."""

    def request(**fields: Any) -> pb.GenerateRequest:
        return pb.GenerateRequest(**{"model": STYLED, "labels": ["one"], "seeds": pb.Seeds(values=[1]), **fields})

    def of(**fields: Any) -> pb.GenerateRequest:  # without seeds
        return pb.GenerateRequest(**{"model": STYLED, "labels": ["one"], **fields})

    yield "nothing to generate", of(), INVALID
    for count in (0, 4097, 1 << 31, (1 << 32) - 1):
        yield f"count {count}", of(count=count), INVALID
    yield "100,000 seeds", request(seeds=pb.Seeds(values=[7] * 100_000)), INVALID
    yield "no seeds", request(seeds=pb.Seeds()), INVALID
    yield "seeds beyond the last", of(count=2, first_seed=(1 << 32) - 1), INVALID
    yield "first_seed without count", request(first_seed=1), INVALID
    for size in (0, 1, 15, 17, MANY + 1):
        yield f"latents of {size} B", of(latents=pb.Latents(data=bytes(size))), INVALID
        for layered in (False, True):
            ws = pb.Ws(data=bytes(size), per_layer=layered)
            yield f"ws of {size} B{', per layer' * layered}", pb.GenerateRequest(model=STYLED, ws=ws), INVALID
    for value in (math.nan, math.inf, -math.inf):
        data = np.full(4, value, np.float32).tobytes()
        yield f"latents {value}", of(latents=pb.Latents(data=data)), INVALID
        yield f"ws {value}", pb.GenerateRequest(model=STYLED, ws=pb.Ws(data=data)), INVALID
        yield f"truncation {value}", request(truncations=[value]), INVALID
    for label in ("", "-1", "3", "1e0", "\u0661", "\u00b9", "9" * 10_000, "One", "one ", "a" * MANY, "\x00\n"):
        yield f"label {label[:20]!r}", request(labels=[label]), INVALID
    for fields in (
        {"labels": ()}, {"labels": ["one"] * 2}, {"labels": ["one"] * 100_000}, {"truncations": [1.0] * 2},
        {"truncations": [1.0] * 100_000}, {"noise_seeds": [1, 2]}, {"noise_seeds": [1] * 100_000},
    ):  # fmt: skip
        what = ", ".join(f"{len(values)} {name}" for name, values in fields.items())
        yield what, request(**fields), INVALID
    ws = pb.Ws(data=FOUR)
    yield "ws and labels", pb.GenerateRequest(model=STYLED, ws=ws, labels=["one"]), INVALID
    yield "ws and truncations", pb.GenerateRequest(model=STYLED, ws=ws, truncations=[1]), INVALID
    for model in (PLAIN, UPSCALER, TRANSLATOR):
        yield f"a model of another kind: {model}", request(model=model), INVALID
    for what, encoding in _encodings():
        yield what, request(encoding=encoding), INVALID
    up, other = pb.Step(model=UPSCALER), pb.Step(model=TRANSLATOR)
    for what, steps in (
        ("9 steps", [up] * 9), ("10,000 steps", [other] * 10_000),
        ("a generator as a step", [up, pb.Step(model=STYLED)]), ("plain tensors as a step", [pb.Step(model=PLAIN)]),
        ("a version of letters", [pb.Step(model=UPSCALER, version="x")]),
        ("a version of 10,000 digits", [pb.Step(model=UPSCALER, version="9" * 10_000)]),
    ):  # fmt: skip
        yield what, request(then=steps), INVALID
    yield "8 steps", request(then=[up, other] * 4), BLAMES_CALLER | OK
    yield "8 steps for 64 images", of(count=64, then=[up] * 8), BLAMES_CALLER | OK
    for name in ("", "nobody", "../x", "a" * MANY, "\x00"):
        yield f"step {name[:20]!r}", request(then=[pb.Step(model=name)]), BLAMES_CALLER


def _encodings() -> Iterator[tuple[str, pb.Encoding]]:
    for kind, qualities in ((0, (10, 100)), (1, (10,)), (2, (0, 101)), (3, (0, 101)), (4, (0, 1, 50))):
        for quality in (*qualities, (1 << 32) - 1):
            yield f"format {kind}, quality {quality}", pb.Encoding(format=kind, quality=quality)  # type: ignore[arg-type]
    for wire in (b"\x08\x05", b"\x08\xff\xff\xff\xff\x07", b"\x08" + b"\xff" * 9 + b"\x01"):
        yield f"format {wire.hex()}", pb.Encoding.FromString(wire)


def _transforms() -> Iterator[Case]:
    """Upscale and Translate with a good image, or raw pixels, and something else wrong."""
    good = images.good()
    for rpc, message, model in (
        ("Upscale", pb.UpscaleRequest, UPSCALER),
        ("Translate", pb.TranslateRequest, TRANSLATOR),
    ):
        for what, encoding in _encodings():
            yield Case(what, rpc, message(model=model, image=good, encoding=encoding).SerializeToString())
        for other in (PLAIN, STYLED, TRANSLATOR if model == UPSCALER else UPSCALER):
            yield Case(f"a model of another kind: {other}", rpc, message(model=other, image=good).SerializeToString())
        for width, height, size in (
            (4, 0, 48), (0, 4, 48), (4, 4, 0), (4, 4, 47), (4, 4, 32), (4, 4, 80), ((1 << 32) - 1, (1 << 32) - 1, 3),
            (1 << 16, 1 << 16, 3), (1 << 31, 1, 12), (1, 1, MANY), (100_000, 1, 299_999),
        ):  # fmt: skip
            request = message(model=model, image=bytes(size), raw_width=width, raw_height=height)
            yield Case(f"raw {width} x {height} of {size} B", rpc, request.SerializeToString())
        for alpha in (3, -1, 1 << 30):
            wire = pb.UpscaleRequest(model=model, image=good).SerializeToString() + b"\x30" + _varint(alpha)
            yield Case(f"alpha {alpha}", rpc, wire, OK | INVALID)


def _varint(value: int) -> bytes:
    value &= (1 << 64) - 1
    out = bytearray()
    while value > 127:
        out.append(value & 127 | 128)
        value >>= 7
    return bytes([*out, value])
