"""What config.pbtxt says of ONNX Runtime's session on the CPU: the parameters that Triton's backend documents.

parameters { key: "intra_op_thread_count" value { string_value: "2" } }
optimization { graph { level: 1 } }
"""

import re
from collections.abc import Iterator, Mapping

from tritonclient.grpc.model_config_pb2 import ModelConfig

from artifact.repository import CONFIG
from server.engines.onnx.cpu import cores, max_threads
from server.engines.onnx.tuning import UNTUNED, GraphLevel, Tuning
from server.errors import NotServing
from server.settings import Settings

MAX_THREADS = 1024
# Triton's numbers of `optimization { graph { level } }`.
_LEVELS: Mapping[int, GraphLevel] = {-1: "basic", 0: "all", 1: "extended", 2: "none"}
_SHRINKAGE = "memory.enable_memory_arena_shrinkage"
NAMES = (
    "intra_op_thread_count",
    "inter_op_thread_count",
    "execution_mode",
    "enable_mem_arena",
    "enable_mem_pattern",
    _SHRINKAGE,
    "session.use_device_allocator_for_initializers",
)


def read_tuning(config: ModelConfig | None) -> Tuning:
    """The options of the session.

    Raises:
        NotServing: a value that Triton does not document, or too many threads.
    """
    if config is None:
        return UNTUNED
    level = config.optimization.graph.level
    if level not in _LEVELS:
        raise NotServing(f"{CONFIG}: optimization.graph.level {level} is not supported; -1, 0, 1 and 2 are")
    shrinkage = _text(config, _SHRINKAGE, "")
    if shrinkage and not re.fullmatch("(cpu:0|gpu:[0-9]+)(;(cpu:0|gpu:[0-9]+))*", shrinkage):
        raise NotServing(f"{CONFIG}: parameter {_SHRINKAGE} {shrinkage!r} is not supported; cpu:0 is")
    return Tuning(
        intra_threads=_number(config, "intra_op_thread_count", MAX_THREADS),
        inter_threads=_number(config, "inter_op_thread_count", MAX_THREADS),
        is_parallel=bool(_number(config, "execution_mode", 1)),
        graph=_LEVELS[level],
        has_arena=bool(_number(config, "enable_mem_arena", 1, "1")),
        has_pattern=bool(_number(config, "enable_mem_pattern", 1, "1")),
        shrinks="cpu:0" in shrinkage.split(";"),
        device_initializers=bool(_number(config, "session.use_device_allocator_for_initializers", 1)),
    )


def too_many_threads(config: ModelConfig | None, settings: Settings) -> Iterator[str]:
    """The threads that it asks for beyond those that a run gets, one line for each parameter."""
    if config is None:
        return
    most = max_threads(settings.threads or cores())
    for name in ("intra_op_thread_count", "inter_op_thread_count"):
        if (number := _number(config, name, MAX_THREADS)) > most:
            yield f"{name} {number}: a run gets {most} threads, as many as there are cores (or --threads)"


def unused_tuning(config: ModelConfig | None, engine: str, device: str) -> Iterator[str]:
    """What of it has no effect since this engine runs the model on this device: one line."""
    if config is None or (engine, device) == ("onnx", "cpu"):
        return
    named = [name for name in NAMES if name in config.parameters]
    if config.optimization.graph.level:
        named.append("optimization.graph")
    if named:
        yield f"{', '.join(named)}: for ONNX Runtime on the CPU; {engine} runs the model on {device}"


def _text(config: ModelConfig, key: str, default: str) -> str:
    return str(config.parameters[key].string_value) if key in config.parameters else default


def _number(config: ModelConfig, key: str, highest: int, default: str = "0") -> int:
    text = _text(config, key, default)
    if not re.fullmatch("[0-9]{1,9}", text) or int(text) > highest:
        raise NotServing(f"{CONFIG}: parameter {key} {text!r}: must be a number from 0 to {highest}")
    return int(text)
