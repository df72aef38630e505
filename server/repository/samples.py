"""`model_warmup` of config.pbtxt: requests that a model has to answer before it is ready."""

import logging
import math
import stat
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tritonclient.grpc.model_config_pb2 import DataType, ModelConfig, ModelWarmup

from artifact.dtypes import BF16, NUMPY_OF, TRITON_OF
from artifact.repository import CONFIG, is_inside
from server.batching.device import Device
from server.engines.base import Arrays, Engine
from server.engines.strings import from_raw
from server.errors import NotServing, RequestError
from server.repository.declared import DeclaredTensor
from server.repository.defaults import NO_OPTIONAL_INPUTS, OptionalInputs
from server.repository.warmup import one_line, run_once

# Triton's name for the folder beside the versions.
FOLDER = "warmup"

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Sample:
    """Inputs of one run, which is made `runs` times."""

    name: str
    arrays: Arrays
    runs: int


class SampleReader:
    """Makes the samples of one model."""

    def __init__(
        self,
        config: ModelConfig,
        inputs: Sequence[DeclaredTensor],
        defaults: OptionalInputs,
        folder: Path,
        limit_bytes: int,
    ) -> None:
        """`config`: as the model is served. `folder`: the model's. `limit_bytes`: of all samples together."""
        self._samples = config.model_warmup
        self._max_batch_size = int(config.max_batch_size)
        self._inputs = {tensor.name: tensor for tensor in inputs}
        self._defaults = defaults if self._max_batch_size else NO_OPTIONAL_INPUTS
        self._folder = folder / FOLDER
        self._limit_bytes = limit_bytes
        self._rng = np.random.RandomState(0)

    def read(self) -> list[Sample]:
        """The samples in their order. Blocks; on any thread.

        Raises:
            NotServing: one is not what the model takes, or its file is not there.
        """
        held = 0
        samples: list[Sample] = []
        for sample in self._samples:
            what = f"{CONFIG}: model_warmup {sample.name!r}"
            most = max(1, self._max_batch_size)
            if not sample.batch_size:  # as in Triton; proto3's value for a field that was forgotten
                log.warning(
                    "not run", extra={"fields": {"model": self._folder.parent.name, "what": f"{what}: batch_size 0"}}
                )
                continue
            if sample.batch_size > most:
                raise NotServing(f"{what}: batch_size {sample.batch_size}: must be 1 to {most}")
            held += self._size(what, sample)
            if held > self._limit_bytes:
                limit = f"limit {self._limit_bytes} (max_message_bytes)"
                raise NotServing(f"{what}: with the samples before it {held} bytes, {limit}")
            samples.append(Sample(sample.name, self._arrays(what, sample), max(1, sample.count)))
        return samples

    def _size(self, what: str, sample: ModelWarmup) -> int:
        """The bytes that the sample takes; what the model would refuse is found here."""
        for name in self._inputs:
            if name not in sample.inputs and name not in self._defaults.names:
                raise NotServing(f"{what}: input {name!r} is missing")
        nbytes = 0
        for name, given in sample.inputs.items():
            tensor = self._inputs.get(name)
            if tensor is None:
                raise NotServing(f"{what}: input {name!r} is not in the model, which has {', '.join(self._inputs)}")
            if (found := DataType.Name(given.data_type)) != TRITON_OF[tensor.dtype]:
                raise NotServing(f"{what}: input {name!r} is {found}, {TRITON_OF[tensor.dtype]} in the model")
            if (shape := tensor.to_graph(tuple(given.dims))) is None:
                raise NotServing(f"{what}: input {name!r} has dims {list(given.dims)}, the model's {list(tensor.dims)}")
            nbytes += math.prod(shape) * NUMPY_OF[tensor.dtype].itemsize
        return nbytes * int(sample.batch_size)

    def _arrays(self, what: str, sample: ModelWarmup) -> Arrays:
        arrays: dict[str, NDArray[Any]] = {}
        for name, given in sample.inputs.items():
            array = self._array(f"{what}: input {name!r}", self._inputs[name], given)
            arrays[name] = array[np.newaxis].repeat(sample.batch_size, axis=0) if self._max_batch_size else array
        try:
            for name in [name for name in self._inputs if name not in arrays]:
                arrays[name] = self._defaults.fill(name, arrays, sample.batch_size)
        except RequestError as error:
            raise NotServing(f"{what}: {error}") from None
        return {name: arrays[name] for name in self._inputs}

    def _array(self, what: str, tensor: DeclaredTensor, given: ModelWarmup.Input) -> NDArray[Any]:
        """One item. Random numbers are finite: floats in [0, 1), integers of every value; strings are empty."""
        shape = tensor.to_graph(tuple(given.dims)) or ()
        count = math.prod(shape)
        dtype = NUMPY_OF[tensor.dtype]
        source = given.WhichOneof("input_data_type")
        if source is None:
            raise NotServing(f"{what}: one of zero_data, random_data and input_data_file must be set")
        if source == "input_data_file":
            return self._from_file(what, tensor.dtype, given.input_data_file, count).reshape(shape)
        if tensor.dtype == "BYTES":
            return np.full(shape, "", dtype)
        if source == "zero_data":
            return np.zeros(shape, dtype)
        if tensor.dtype == BF16:
            floats = self._rng.random_sample(count).astype(np.float32)
            return (floats.view(np.uint32) >> 16).astype(dtype).reshape(shape)
        if dtype.kind == "f":
            return self._rng.random_sample(shape).astype(dtype)
        if dtype.kind == "b":
            return self._rng.randint(0, 2, shape).astype(dtype)
        return np.frombuffer(self._rng.bytes(count * dtype.itemsize), dtype).reshape(shape)

    def _from_file(self, what: str, dtype: str, name: str, count: int) -> NDArray[Any]:
        """The tensor's raw bytes, as a request has them. More than it needs is left, as in Triton."""
        if not is_inside(name):
            raise NotServing(f"{what}: {name!r} must be a file in the model's folder {FOLDER}")
        needed = count * NUMPY_OF[dtype].itemsize
        try:
            path = self._folder / name
            status = path.stat()
            if not stat.S_ISREG(status.st_mode):  # a pipe would block
                raise NotServing(f"{what}: {FOLDER}/{name} is not a file")
            if dtype == "BYTES" and status.st_size > self._limit_bytes:
                limit = f"limit {self._limit_bytes} (max_message_bytes)"
                raise NotServing(f"{what}: {FOLDER}/{name} has {status.st_size} bytes, {limit}")
            with path.open("rb") as file:
                data = file.read() if dtype == "BYTES" else file.read(needed)
        except OSError as error:
            raise NotServing(f"{what}: {FOLDER}/{name} cannot be read: {error.strerror}") from None
        if dtype == "BYTES":
            try:
                return from_raw("input", data, count, self._limit_bytes)
            except RequestError as error:
                raise NotServing(f"{what}: {FOLDER}/{name}: {error}") from None
        if len(data) < needed:
            raise NotServing(f"{what}: it takes {needed} bytes, but {FOLDER}/{name} only has {len(data)}")
        return np.frombuffer(data, NUMPY_OF[dtype])


async def run_samples(device: Device, engine: Engine, samples: Sequence[Sample], until: float, limit_s: float) -> str:
    """Runs every sample as often as it says, while there is time; the first one in any case.

    `until`: on the monotonic clock. `limit_s`: how long a run may take, if the engine can be stopped; 0: for ever.

    Returns:
        What was not run, "" if all was.

    Raises:
        NotServing: a run failed.
    """
    is_first = True
    for sample in samples:
        for number in range(sample.runs):
            if not is_first and time.monotonic() > until:
                what = f"model_warmup {sample.name!r}: {number} of {sample.runs} runs were made before requests"
                return f"{what}: the time for it (warmup_s) was over"
            is_first = False
            try:
                engine.check({name: array.shape for name, array in sample.arrays.items()})
                await run_once(device, engine, sample.arrays, False, limit_s)
            except NotServing:
                raise
            except Exception as error:  # whatever the engine raises, this version is not served
                raise NotServing(f"{CONFIG}: model_warmup {sample.name!r}: {one_line(error)}") from error
    return ""
