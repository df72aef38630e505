"""How a session of ONNX Runtime runs on the CPU, where a model's config says so."""

from dataclasses import dataclass, replace
from typing import Literal, TypeAlias

import onnxruntime as ort

GraphLevel: TypeAlias = Literal["all", "extended", "basic", "none"]
_LEVELS = {
    "all": ort.GraphOptimizationLevel.ORT_ENABLE_ALL,
    "extended": ort.GraphOptimizationLevel.ORT_ENABLE_EXTENDED,
    "basic": ort.GraphOptimizationLevel.ORT_ENABLE_BASIC,
    "none": ort.GraphOptimizationLevel.ORT_DISABLE_ALL,
}


@dataclass(frozen=True)
class Tuning:
    """The options that a config may set.

    Attributes:
        intra_threads: of one run, within a node; 0: as many as its lane has.
        inter_threads: of one run, between nodes, if `is_parallel`; 0: one for each core.
        is_parallel: whether nodes that do not depend on each other run at once.
        graph: how far the graph is optimised.
        has_arena, has_pattern: how memory is kept between runs.
        shrinks: whether it is given back after every run.
        device_initializers: whether weights are allocated outside of the arena.
    """

    intra_threads: int = 0
    inter_threads: int = 0
    is_parallel: bool = False
    graph: GraphLevel = "all"
    has_arena: bool = True
    has_pattern: bool = True
    shrinks: bool = False
    device_initializers: bool = False

    def within(self, threads: int) -> "Tuning":
        """The same with at most so many threads: more than there are cores wait for each other, and keep others out."""
        return replace(
            self, intra_threads=min(self.intra_threads, threads), inter_threads=min(self.inter_threads, threads)
        )

    def apply(self, options: ort.SessionOptions) -> None:
        """Sets the options, but the threads within a node."""
        if self.is_parallel:
            options.execution_mode = ort.ExecutionMode.ORT_PARALLEL
            options.inter_op_num_threads = self.inter_threads
        options.graph_optimization_level = _LEVELS[self.graph]
        options.enable_cpu_mem_arena = self.has_arena
        options.enable_mem_pattern = self.has_pattern
        if self.device_initializers:
            options.add_session_config_entry("session.use_device_allocator_for_initializers", "1")

    def run_options(self) -> ort.RunOptions:
        """Those of a run."""
        options = ort.RunOptions()
        return shrinking(options) if self.shrinks and self.has_arena else options


UNTUNED = Tuning()


def shrinking(options: ort.RunOptions) -> ort.RunOptions:
    """The options of a run that gives the arena's memory back at its end."""
    options.add_run_config_entry("memory.enable_memory_arena_shrinkage", "cpu:0")
    return options
