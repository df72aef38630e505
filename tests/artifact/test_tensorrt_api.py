"""Every call that we make of TensorRT is one that both libraries have: name, arguments by position, what it returns.

Where the installed bindings are those of one variant alone, the other's tests are skipped.
"""

import ast
import importlib.util
import shutil

import pytest

from artifact.dtypes import KSERVE_OF_TENSORRT
from artifact.tensorrt import load
from tests.artifact.tensorrt_api import ROOT, calls, described, described_classic

CALLS = """
Builder.__init__(ILogger) -> None
Builder.create_network(int) -> INetworkDefinition
Builder.create_builder_config() -> IBuilderConfig
Builder.create_optimization_profile() -> IOptimizationProfile
Builder.build_serialized_network(INetworkDefinition, IBuilderConfig) -> IHostMemory
OnnxParser.__init__(INetworkDefinition, ILogger) -> None
OnnxParser.parse_from_file(str) -> bool
OnnxParser.num_errors(OnnxParser) -> int
OnnxParser.get_error(int) -> IParserError
ParserError.desc() -> str
ParserError.node() -> int
ParserError.node_name() -> str
ParserError.node_operator() -> str
IOptimizationProfile.set_shape(str, Dims, Dims, Dims) -> None
IBuilderConfig.progress_monitor(IBuilderConfig) -> IProgressMonitor
IBuilderConfig.clear_flag(BuilderFlag) -> None
IBuilderConfig.set_flag(BuilderFlag) -> None
IBuilderConfig.add_optimization_profile(IOptimizationProfile) -> int
IBuilderConfig.create_timing_cache(bytes) -> ITimingCache
IBuilderConfig.get_timing_cache() -> ITimingCache
IBuilderConfig.set_timing_cache(ITimingCache, bool) -> bool
ITimingCache.serialize() -> IHostMemory
ILogger.__init__() -> None
ILogger.log(Severity, str) -> None
IProgressMonitor.__init__() -> None
IProgressMonitor.phase_start(str, str, int) -> None
IProgressMonitor.step_complete(str, int) -> bool
IProgressMonitor.phase_finish(str) -> None
Runtime.__init__(ILogger) -> None
Runtime.deserialize_cuda_engine(bytes) -> ICudaEngine
ICudaEngine.num_io_tensors(ICudaEngine) -> int
ICudaEngine.num_optimization_profiles(ICudaEngine) -> int
ICudaEngine.device_memory_size_v2(ICudaEngine) -> int
ICudaEngine.get_tensor_name(int) -> str
ICudaEngine.get_tensor_mode(str) -> TensorIOMode
ICudaEngine.get_tensor_dtype(str) -> DataType
ICudaEngine.get_tensor_shape(str) -> Dims
ICudaEngine.get_tensor_location(str) -> TensorLocation
ICudaEngine.get_tensor_format(str) -> TensorFormat
ICudaEngine.get_tensor_format_desc(str) -> str
ICudaEngine.get_tensor_profile_shape(str, int) -> list[Dims]
ICudaEngine.create_execution_context(ExecutionContextAllocationStrategy) -> IExecutionContext
IExecutionContext.set_device_memory(int, int) -> None
IExecutionContext.set_optimization_profile_async(int, int) -> bool
IExecutionContext.set_input_shape(str, tuple) -> bool
IExecutionContext.set_tensor_address(str, int) -> bool
IExecutionContext.get_tensor_shape(str) -> Dims
IExecutionContext.get_max_output_size(str) -> int
IExecutionContext.execute_async_v3(int) -> bool
"""
# With these the code asks first, by `hasattr` or by the variant.
RTX_CALLS = """
IBuilderConfig.num_compute_capabilities(IBuilderConfig) -> int
IBuilderConfig.set_compute_capability(ComputeCapability, int) -> bool
Runtime.get_engine_validity(bytes) -> tuple
IExecutionContext.is_stream_capturable(int) -> bool
IRuntimeConfig.create_runtime_cache() -> IRuntimeCache
IRuntimeConfig.set_runtime_cache(IRuntimeCache) -> bool
IRuntimeCache.serialize() -> IHostMemory
IRuntimeCache.deserialize(bytes) -> bool
"""
# Classic TensorRT has these two as well; they are called only for what RTX compiles.
RTX_CONFIG = """
ICudaEngine.create_runtime_config() -> IRuntimeConfig
ICudaEngine.create_execution_context(IRuntimeConfig) -> IExecutionContext
IRuntimeConfig.set_execution_context_allocation_strategy(ExecutionContextAllocationStrategy) -> None
"""
MEMBERS = {
    "ILogger": "Severity INTERNAL_ERROR ERROR WARNING",
    "BuilderFlag": "TF32 STRICT_NANS",
    "NetworkDefinitionCreationFlag": "STRONGLY_TYPED",
    "ExecutionContextAllocationStrategy": "USER_MANAGED",
    "TensorIOMode": "INPUT",
    "TensorLocation": "DEVICE",
    "TensorFormat": "LINEAR",
    "DataType": " ".join(KSERVE_OF_TENSORRT),
}
RTX_MEMBERS = {
    "BuilderFlag": "REQUIRE_USER_ALLOCATION",
    "ComputeCapability": "CURRENT SM80 SM120",
    "DynamicShapesKernelSpecializationStrategy": "EAGER LAZY",
    "IRuntimeConfig": "dynamic_shapes_kernel_specialization_strategy",
    "EngineInvalidityDiagnostics": "VERSION_MISMATCH UNSUPPORTED_CC MALFORMED_ENGINE CUDA_ERROR",
}
# Names of the API that our files also use of other things.
ORDINARY = {
    "append",
    "clear",
    "device_memory",
    "dtype",
    "itemsize",
    "name",
    "nbytes",
    "shape",
    "size",
    "start",
    "warnings",
}
ORDINARY |= {"max", "min", "opt", "read", "write"}
FILES = [
    ROOT / "artifact/tensorrt.py",
    *(ROOT / "export/engine").glob("*.py"),
    *(ROOT / f"server/engines/tensorrt/{name}.py" for name in ("compatibility", "contexts", "engine", "launch")),
    *(ROOT / f"server/engines/tensorrt/{name}.py" for name in ("plan", "profiles")),
]

Api = dict[str, str]


@pytest.fixture(scope="module")
def rtx() -> Api:
    pytest.importorskip("tensorrt_rtx_bindings")
    return described(load("rtx"))


@pytest.fixture(scope="module")
def classic(tmp_path_factory: pytest.TempPathFactory) -> Api:
    if importlib.util.find_spec("tensorrt_bindings") is None or shutil.which("cc") is None:
        pytest.skip("needs tensorrt-cu13-bindings and a C compiler")
    return described_classic(tmp_path_factory.mktemp("symbols"))


def missing(api: Api, lines: str) -> list[str]:
    """Of our calls, those that the library does not have so."""
    return [
        line
        for line in lines.split("\n")
        if line and not any(has.allows(calls(line)[0]) for has in calls(api.get(line.partition("(")[0], "")))
    ]


def absent(api: Api, members: dict[str, str]) -> list[str]:
    names = [f"{owner}.{name}" for owner, listed in members.items() for name in listed.split()]
    return [name for name in names if name not in api]


def test_tensorrt_for_rtx_has_every_call(rtx: Api) -> None:
    assert missing(rtx, CALLS + RTX_CALLS + RTX_CONFIG) == []
    assert absent(rtx, MEMBERS) == absent(rtx, RTX_MEMBERS) == []


def test_classic_tensorrt_has_every_call_but_those_that_are_asked_for_first(classic: Api) -> None:
    assert missing(classic, CALLS + RTX_CONFIG) == []
    assert absent(classic, MEMBERS) == []
    assert missing(classic, RTX_CALLS) == RTX_CALLS.split("\n")[1:-1]
    assert len(absent(classic, RTX_MEMBERS)) == len(" ".join(RTX_MEMBERS.values()).split())


def test_a_call_that_is_wrong_is_found(rtx: Api) -> None:
    for wrong in (
        "Builder.create_engine() -> IHostMemory",
        "IExecutionContext.set_device_memory(int) -> None",
        "IExecutionContext.execute_async_v3(str) -> bool",
        "IExecutionContext.execute_async_v3(int, int) -> bool",
        "ICudaEngine.get_tensor_name(int) -> bytes",
    ):
        assert missing(rtx, wrong) == [wrong]


def test_no_call_is_made_that_is_not_listed_with_as_many_arguments(rtx: Api) -> None:
    listed = arities(CALLS + RTX_CALLS + RTX_CONFIG)
    members = {name for names in (*MEMBERS.values(), *RTX_MEMBERS.values()) for name in names.split()}
    owners = {key.partition(".")[0] for key in rtx}
    api = {key.partition(".")[2] for key in rtx if "._" not in key} - owners - members - ORDINARY
    found = set()
    for path in FILES:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Attribute) and node.attr in api:
                found.add(node.attr)
                assert node.attr in listed, f"{path.name}: {node.attr}"
            if isinstance(node, ast.Constant) and node.value in listed:
                found.add(node.value)  # of a getattr
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in listed:
                found.add(node.func.attr)
                assert len(node.args) in listed[node.func.attr], f"{path.name}: {ast.unparse(node)}"
    ours = {"ILogger", "IProgressMonitor", "log", "phase_start", "phase_finish", "step_complete"}
    assert listed.keys() - found == ours, "called by TensorRT, in classes of ours; everything else is called by us"


def arities(lines: str) -> dict[str, set[int]]:
    """Method, property or class -> how many arguments it is called with."""
    found: dict[str, set[int]] = {}
    for line in filter(None, lines.split("\n")):
        owner, _, member = line.partition("(")[0].partition(".")
        name = owner if member == "__init__" else member
        found.setdefault(name, set()).update(len(call.takes) for call in calls(line))
    return found
