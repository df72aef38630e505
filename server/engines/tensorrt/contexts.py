"""Execution contexts of one TensorRT engine: they share their memory, and what TensorRT for RTX compiles for them."""

import logging
import tempfile
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from artifact.tensorrt import refused
from server.engines.tensorrt.cuda import Cuda

log = logging.getLogger(__name__)


class Contexts:
    """Makes contexts. They share one block of device memory, so only one of them may run at a time.

    TensorRT for RTX compiles an engine's kernels for the GPU when a context first meets shapes. What it compiled is
    read from `cache` at the start and written there by `save`.
    """

    def __init__(self, library: Any, cuda: Cuda, engine: Any, cache: Path | None, held: ExitStack) -> None:
        self._library = library
        self._engine = engine
        self._nbytes = int(engine.device_memory_size_v2)
        self._memory = cuda.device_memory(self._nbytes, held)
        held.callback(self._forget)
        self._strategy = library.ExecutionContextAllocationStrategy.USER_MANAGED
        # Classic TensorRT has nothing to compile any more.
        self._compiles = hasattr(library, "DynamicShapesKernelSpecializationStrategy")
        self._cache_file = cache if self._compiles else None
        self._cached = b""
        self._configs: dict[bool, Any] = {}  # fixed or not -> kept for as long as the contexts
        self._cache = self._read_cache() if self._compiles else None

    def make(self, profile: int, fixed: bool, stream: Any) -> Any:
        """A context for one profile. `fixed`: warm-up runs all of its few shapes.

        Raises:
            TensorRTError: it cannot be made.
        """
        context = self._engine.create_execution_context(self._config(fixed) if self._compiles else self._strategy)
        if context is None:
            raise refused("no execution context")
        context.set_device_memory(self._memory, self._nbytes)
        if not context.set_optimization_profile_async(profile, int(stream)):
            raise refused(f"optimisation profile {profile} cannot be selected")
        return context

    def save(self) -> None:
        """Writes what was compiled to the cache file, whole or not at all; a failure is logged."""
        if self._cache is None or self._cache_file is None:
            return
        blob = self._cache.serialize()
        if blob is None or bytes(blob) == self._cached:
            return
        try:
            _write(self._cache_file, bytes(blob))
        except OSError as error:
            log.warning("runtime cache not written: %s", error)

    def _forget(self) -> None:
        # The engine's weights stay on the GPU for as long as anything refers to it.
        self._engine = self._cache = None
        self._configs.clear()

    def _config(self, fixed: bool) -> Any:
        if fixed in self._configs:
            return self._configs[fixed]
        config = self._configs[fixed] = self._engine.create_runtime_config()
        config.set_execution_context_allocation_strategy(self._strategy)
        # EAGER compiles in the first run at new shapes, which is right at warm-up, and a CUDA graph then holds those
        # kernels. If heights and widths are free, a request may bring new shapes: LAZY compiles while others run.
        kinds = self._library.DynamicShapesKernelSpecializationStrategy
        config.dynamic_shapes_kernel_specialization_strategy = kinds.EAGER if fixed else kinds.LAZY
        config.set_runtime_cache(self._cache)
        return config

    def _read_cache(self) -> Any:
        cache = self._engine.create_runtime_config().create_runtime_cache()
        if self._cache_file is not None and self._cache_file.is_file():
            try:
                blob = self._cache_file.read_bytes()
                # False: damaged, or of another GPU, driver or version.
                if cache.deserialize(blob):
                    self._cached = blob
                else:
                    log.warning("runtime cache ignored: %s does not fit here", self._cache_file)
            except OSError as error:
                log.warning("runtime cache not read: %s", error)
        return cache


def _write(path: Path, blob: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile(dir=path.parent, prefix=path.name, delete=False) as file:
        try:
            file.write(blob)
            file.flush()
            Path(file.name).replace(path)
        except OSError:
            Path(file.name).unlink(missing_ok=True)
            raise
