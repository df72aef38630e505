"""The TensorRT engine over a CUDA runtime and a TensorRT that are fakes at the bindings' border."""

import logging
import threading
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from artifact.spec import TensorSpec
from server.engines.base import DeviceId
from server.errors import InvalidRequest
from tests.server.engines.conftest import Open, doubled, drawn, generator, upscaler
from tests.server.engines.fake_cuda import FakeCuda
from tests.server.engines.fake_tensorrt import Arrays, Config, DataType, Network, Specialization


def latents(rows: int, seed: int = 0) -> NDArray[np.float32]:
    return np.random.default_rng(seed).standard_normal((rows, 4), dtype=np.float32) * 3


def pictures(rows: int, height: int, width: int) -> NDArray[np.uint8]:
    return np.random.default_rng(height).integers(0, 256, (rows, height, width, 3), dtype=np.uint8)


def test_inputs_and_outputs_are_described_without_the_batch_axis(open_engine: Open) -> None:
    engine = open_engine(generator())
    assert engine.inputs == (TensorSpec("latent", "FP32", (4,)),)
    assert engine.outputs == (TensorSpec("image", "UINT8", (2, 2, 3)), TensorSpec("finite", "BOOL", ()))
    assert open_engine(upscaler()).outputs == (TensorSpec("large", "UINT8", (-1, -1, 3)),)


@pytest.mark.parametrize("rtx", [True, False])
def test_every_batch_gets_its_own_rows_whatever_ran_before(open_engine: Open, rtx: bool) -> None:
    engine = open_engine(generator(), rtx)
    for turn, rows in enumerate([1, 8, 3, 3, 1, 8, 2, 3, 8]):
        given = latents(rows, turn)
        given[0, 0] = np.nan if turn % 2 else 1
        with np.errstate(invalid="ignore"):
            wanted = drawn({"latent": given})
            found = engine.run({"latent": given}, whole_device=rows == 1)
        assert found["image"].dtype == np.uint8
        assert found["finite"].dtype == np.bool_
        np.testing.assert_array_equal(found["finite"], wanted["finite"])
        np.testing.assert_array_equal(found["image"][found["finite"]], wanted["image"][found["finite"]])


def test_what_a_run_returned_is_the_callers(open_engine: Open) -> None:
    engine = open_engine(generator())
    first = engine.run({"latent": latents(4, 1)}, False)["image"]
    kept = first.copy()
    engine.run({"latent": latents(4, 2)}, False)
    np.testing.assert_array_equal(first, kept)
    first[:] = 0  # and ours to write in
    np.testing.assert_array_equal(engine.run({"latent": latents(4, 1)}, False)["image"], kept)


def test_memory_is_allocated_when_the_engine_is_opened_and_never_again(open_engine: Open, cuda: FakeCuda) -> None:
    engine = open_engine(generator())
    held = dict(cuda.memory)
    assert sorted(len(buffer) for buffer, pinned, _ in held.values() if pinned) == [8, 8 * 2 * 2 * 3, 8 * 4 * 4]
    for rows in [*range(1, 9), *range(1, 9)]:
        engine.run({"latent": latents(rows)}, False)
    assert cuda.memory == held
    assert cuda.count("cudaStreamCreateWithFlags") == 1


def test_each_number_of_rows_is_captured_once_and_launched_from_then_on(open_engine: Open, cuda: FakeCuda) -> None:
    network = generator()
    engine = open_engine(network)
    for rows in (1, 2, 3):
        engine.run({"latent": latents(rows)}, False)
    assert cuda.count("cudaGraphInstantiate") == cuda.count("cudaGraphUpload") == 3
    assert cuda.count("cudaGraphLaunch") == 0
    copies = cuda.count("cudaMemcpyAsync")
    for seed, rows in enumerate((3, 1, 2, 2), 10):
        found = engine.run({"latent": latents(rows, seed)}, False)["image"]
        np.testing.assert_array_equal(found, drawn({"latent": latents(rows, seed)})["image"])
    assert cuda.count("cudaGraphLaunch") == 4
    assert cuda.count("cudaGraphInstantiate") == 3
    assert cuda.count("cudaMemcpyAsync") == copies
    assert network.contexts == 4  # the profile's, and one for each graph


def labelled(arrays: Arrays) -> Arrays:
    return {"sum": (arrays["latent"].sum(axis=1) + arrays["label"]).astype(np.float32)}


def test_several_inputs_of_several_types_reach_their_own_memory(open_engine: Open, cuda: FakeCuda) -> None:
    profile = {"latent": ((1, 4), (2, 4), (6, 4)), "label": ((1,), (2,), (6,))}
    inputs = {"latent": (DataType.HALF, (-1, 4)), "label": (DataType.INT64, (-1,))}
    engine = open_engine(Network(inputs, {"sum": (DataType.FLOAT, (-1,))}, [profile], labelled))
    for rows in (2, 6, 1, 2, 6):
        given: Arrays = {"label": np.arange(rows) * 1000, "latent": latents(rows).astype(np.float16)}
        np.testing.assert_array_equal(engine.run(given, False)["sum"], labelled(given)["sum"])
    assert cuda.count("cudaGraphLaunch") == 2
    with pytest.raises(InvalidRequest, match=r"the engine supports latent \[1\.\.6, 4\], label \[1\.\.6\]"):
        engine.check({"latent": (2, 4)})


@pytest.mark.parametrize("free", [True, False])
def test_without_a_batch_axis_only_fixed_shapes_have_a_graph(open_engine: Open, cuda: FakeCuda, free: bool) -> None:
    size = -1 if free else 3
    network = Network(
        {"x": (DataType.FLOAT, (size, 4))},
        {"y": (DataType.FLOAT, (size, 4))},
        [{"x": ((1, 4), (3, 4), (9, 4))}],
        lambda arrays: {"y": arrays["x"] * 2},
    )
    engine = open_engine(network, batched=False)
    assert engine.inputs == (TensorSpec("x", "FP32", (size, 4)),)
    for seed in range(3):
        given = latents(3, seed)
        np.testing.assert_array_equal(engine.run({"x": given}, True)["y"], given * 2)
    assert cuda.count("cudaGraphLaunch") == (0 if free else 2)
    if not free:
        with pytest.raises(InvalidRequest, match=r"the engine supports x \[3, 4\]"):
            engine.check({"x": (2, 4)})


def test_free_heights_and_widths_run_without_graphs(open_engine: Open, cuda: FakeCuda) -> None:
    network = upscaler()
    engine = open_engine(network)
    for rows, height, width in [(1, 4, 16), (2, 16, 16), (1, 4, 16), (1, 5, 7)]:
        given = pictures(rows, height, width)
        np.testing.assert_array_equal(engine.run({"image": given}, False)["large"], doubled({"image": given})["large"])
    assert cuda.count("cudaStreamBeginCapture") == 0
    assert network.contexts == 1


def test_the_narrowest_profile_that_takes_the_shapes_runs_them(open_engine: Open) -> None:
    engine = open_engine(generator((1, 8), (1, 2), (4, 4)))
    for rows in (1, 3, 4, 8):
        engine.run({"latent": latents(rows)}, False)
    ran = [context for context in open_engine.library.contexts if context.settled]
    assert [(context.profile, context.shapes["latent"][0]) for context in ran] == [(1, 1), (0, 3), (2, 4), (0, 8)]


def test_shapes_that_no_profile_takes_are_refused_with_what_would_be_taken(open_engine: Open, cuda: FakeCuda) -> None:
    engine = open_engine(generator((1, 8), (16, 16)))
    engine.check({"latent": (8, 4)})
    engine.check({"latent": (16, 4)})
    for shape in [(9, 4), (0, 4), (1, 5), (4,)]:
        with pytest.raises(InvalidRequest) as refused:
            engine.check({"latent": shape})
        assert str(refused.value) == (
            f"latent {list(shape)}: the engine supports latent [1..8, 4] or latent [16, 4] "
            "(export --profile sets what it supports)"
        )
    with pytest.raises(InvalidRequest):
        engine.run({"latent": latents(9)}, False)
    with pytest.raises(InvalidRequest, match=r"image \[1\.\.2, 4\.\.16, 4\.\.16, 3\]"):
        open_engine(upscaler()).check({"image": (1, 17, 4, 3)})


def test_an_input_of_another_type_is_refused_and_not_converted(open_engine: Open) -> None:
    engine = open_engine(generator())
    with pytest.raises(TypeError):
        engine.run({"latent": latents(2).astype(np.float64)}, False)
    assert len(engine.run({"latent": np.asfortranarray(latents(2))}, False)["image"]) == 2


def test_a_lane_of_another_thread_runs_on_the_engines_gpu(open_engine: Open, cuda: FakeCuda) -> None:
    cuda.gpus = 2
    engine = open_engine(generator(), device=DeviceId("cuda", 1))
    assert {gpu for _, _, gpu in cuda.memory.values()} == {1}
    found: list[NDArray[np.uint8]] = []
    lane = threading.Thread(target=lambda: found.append(engine.run({"latent": latents(2)}, False)["image"]))
    lane.start()
    lane.join()
    np.testing.assert_array_equal(found[0], drawn({"latent": latents(2)})["image"])
    closing = threading.Thread(target=engine.close)
    closing.start()
    closing.join()
    assert cuda.leaks() == []


def test_lanes_that_share_an_engine_take_turns(open_engine: Open) -> None:
    engine = open_engine(generator())
    wrong: list[int] = []

    def lane(seed: int) -> None:
        for turn in range(40):
            given = latents(1 + (seed + turn) % 8, seed)
            if (engine.run({"latent": given}, False)["image"] != drawn({"latent": given})["image"]).any():
                wrong.append(seed)

    lanes = [threading.Thread(target=lane, args=(seed,)) for seed in range(4)]
    for each in lanes:
        each.start()
    for each in lanes:
        each.join()
    assert wrong == []


def test_close_frees_everything_once_and_runs_are_over(open_engine: Open, cuda: FakeCuda) -> None:
    engine = open_engine(generator())
    engine.run({"latent": latents(2)}, False)
    assert cuda.leaks() != []
    engine.close()
    assert cuda.leaks() == []
    calls = len(cuda.calls)
    engine.close()
    assert len(cuda.calls) == calls
    with pytest.raises(RuntimeError, match="closed"):
        engine.run({"latent": latents(2)}, False)


def logged(caplog: pytest.LogCaptureFixture, text: str) -> int:
    return sum(text in record.getMessage() for record in caplog.records)


@pytest.mark.parametrize("rtx", [True, False])
def test_an_engine_that_cannot_be_captured_runs_plainly_and_says_so_once(
    open_engine: Open, cuda: FakeCuda, caplog: pytest.LogCaptureFixture, rtx: bool
) -> None:
    caplog.set_level(logging.INFO)
    network = generator()
    network.capturable = False
    engine = open_engine(network, rtx)
    for rows in (1, 2, 3, 1, 2, 3):
        found = engine.run({"latent": latents(rows)}, False)["image"]
        np.testing.assert_array_equal(found, drawn({"latent": latents(rows)})["image"])
    assert cuda.count("cudaGraphLaunch") == 0
    assert cuda.count("cudaStreamBeginCapture") == (0 if rtx else 1)
    assert logged(caplog, "no CUDA graphs") == 1


def test_without_memory_for_another_context_runs_are_plain(open_engine: Open, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    network = generator()
    network.most_contexts = 2
    engine = open_engine(network)
    for rows in (1, 2, 3, 1, 2):
        found = engine.run({"latent": latents(rows)}, False)["image"]
        np.testing.assert_array_equal(found, drawn({"latent": latents(rows)})["image"])
    assert logged(caplog, "one context too many") == 1


def test_kernels_are_compiled_at_warm_up_where_shapes_are_fixed_and_beside_the_runs_where_not(
    open_engine: Open,
) -> None:
    engine = open_engine(generator())
    engine.run({"latent": latents(2)}, False)
    assert strategies(open_engine) == {Specialization.EAGER}
    open_engine(upscaler())
    assert strategies(open_engine) == {Specialization.LAZY}


def strategies(opened: Open) -> set[Specialization]:
    configs = [context.config for context in opened.library.contexts]
    return {each.dynamic_shapes_kernel_specialization_strategy for each in configs if isinstance(each, Config)}


def test_what_was_compiled_is_kept_in_a_file(open_engine: Open, tmp_path: Path) -> None:
    cache = tmp_path / "caches" / "faces.cache"
    engine = open_engine(generator(), runtime_cache=cache)
    engine.run({"latent": latents(2)}, False)
    assert not cache.exists()
    engine.close()
    assert cache.read_bytes() == b"cache 0:{'latent':(2,4)}"
    again = open_engine(generator(), runtime_cache=cache)
    again.run({"latent": latents(3)}, False)
    again.close()
    assert cache.read_bytes() == b"cache 0:{'latent':(2,4)} 0:{'latent':(3,4)}"
    assert [path.name for path in cache.parent.iterdir()] == ["faces.cache"]


def test_a_cache_that_does_not_fit_is_ignored_with_one_line_and_replaced(
    open_engine: Open, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    cache = tmp_path / "faces.cache"
    cache.write_bytes(b"of another GPU")
    engine = open_engine(generator(), runtime_cache=cache)
    engine.run({"latent": latents(1)}, False)
    assert logged(caplog, "runtime cache ignored") == 1
    engine.close()
    assert cache.read_bytes() == b"cache 0:{'latent':(1,4)}"


def test_a_cache_that_cannot_be_written_does_not_keep_the_engine_from_closing(
    open_engine: Open, cuda: FakeCuda, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "file").write_bytes(b"")
    engine = open_engine(generator(), runtime_cache=tmp_path / "file" / "faces.cache")
    engine.run({"latent": latents(1)}, False)
    engine.close()
    assert logged(caplog, "runtime cache not written") == 1
    assert cuda.leaks() == []


def test_classic_tensorrt_keeps_no_cache(open_engine: Open, tmp_path: Path) -> None:
    engine = open_engine(generator(), rtx=False, runtime_cache=tmp_path / "faces.cache")
    engine.run({"latent": latents(1)}, False)
    engine.close()
    assert not (tmp_path / "faces.cache").exists()
