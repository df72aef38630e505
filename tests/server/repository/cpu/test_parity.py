"""What counts as the same picture and what does not, and the inputs that it is measured on."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from artifact.spec import TensorSpec
from server.engines.onnx.cpu import OnnxCpuEngine
from server.repository.cpu.parity import deviation, make_items, mixing
from server.repository.cpu.subject import RunFailed, Subject
from tests.server.graphs import write_styled
from tests.server.repository.cpu.graphs import Changed, Outputs, write_generator

RANDOM = np.random.RandomState(0)
IMAGE = RANDOM.randint(30, 220, (1, 16, 16, 3)).astype(np.uint8)
FLOATS = RANDOM.randn(1, 3, 16, 16).astype(np.float32)


def far(expected: NDArray[Any], found: NDArray[Any], precision: str = "fp32") -> str:
    return deviation([{"image": expected}], [{"image": found}], precision)


def one_value(array: NDArray[Any], value: Any) -> NDArray[Any]:
    changed = array.copy()
    changed.flat[7] = value
    return changed


def test_an_image_may_differ_a_little_everywhere_and_more_in_a_few_values() -> None:
    for precision in ("fp32", "bf16"):
        assert far(IMAGE, IMAGE, precision) == ""
        assert far(IMAGE, IMAGE + np.uint8(1), precision) == "", "48.1 dB"
        assert far(IMAGE, one_value(IMAGE, IMAGE.flat[7] + 24), precision) == ""
        text = far(IMAGE, one_value(IMAGE, IMAGE.flat[7] + 25), precision)
        assert text == "output 'image' has 49.0 dB and differs by up to 25 levels; 45 dB and 24 levels are required"
        assert far(IMAGE, IMAGE + np.uint8(2), precision).startswith(
            "output 'image' has 42.1 dB and differs by up to 2"
        )


def test_parity_is_of_all_items_together_and_the_largest_difference_of_any() -> None:
    pair = [{"image": IMAGE}, {"image": IMAGE}]
    assert deviation(pair, [{"image": IMAGE}, {"image": IMAGE + np.uint8(2)}], "bf16") == "", "45.1 dB together"
    assert deviation(pair, [{"image": IMAGE}, {"image": one_value(IMAGE, 255)}], "bf16") != ""


def test_floats_are_near_in_float32_and_as_near_as_images_in_less() -> None:
    largest = np.abs(FLOATS).max()
    assert far(FLOATS, FLOATS + np.float32(0.0009 * largest)) == ""
    assert "differs by 0.11% of its largest value; at most 0.1% is accepted" in far(FLOATS, FLOATS + 0.0011 * largest)
    peak = np.float32(np.ptp(FLOATS))
    assert far(FLOATS, FLOATS + peak / 255, "bf16") == ""
    assert "42.1 dB" in far(FLOATS, FLOATS + 2 * peak / 255, "bf16")


def test_what_is_not_finite_must_be_so_in_the_same_places() -> None:
    holes = one_value(FLOATS, np.nan)
    holes.flat[8] = np.inf
    for precision in ("fp32", "bf16"):
        assert far(holes, holes, precision) == ""
        for other in (FLOATS, one_value(holes, 0.0), one_value(holes, -np.inf)):
            assert far(holes, other, precision) == "output 'image' has NaN or infinity in other places"
            assert far(other, holes, precision) == "output 'image' has NaN or infinity in other places"


def test_numbers_that_are_no_image_must_be_equal_and_of_the_same_kind() -> None:
    classes = np.arange(6)
    assert far(classes, classes) == ""
    assert far(classes, classes[::-1]) == "output 'image' has other values"
    for other in (classes.astype(np.int32), classes[:5], classes.reshape(2, 3)):
        assert far(classes, other) == "output 'image' has another shape or type"
    assert deviation([{"image": IMAGE}], [{}], "fp32") == "output 'image' has another shape or type"
    assert far(IMAGE[:0], IMAGE[:0]) == ""


def test_inputs_are_what_requests_would_have_and_the_same_each_time(tmp_path: Path) -> None:
    spec = write_styled(tmp_path / "R", "styled")
    items = make_items(spec.inputs, spec, 0, 4)
    again = make_items(spec.inputs, spec, 0, 4)
    assert {name: array.tobytes() for name, array in items.items()} == {n: a.tobytes() for n, a in again.items()}
    assert items["label"].tolist() == [0, 1, 2, 0]
    assert items["truncation_psi"].tolist() == [0.5] * 4
    assert not items["w_given"].any(), "the mapping network runs too"
    assert len({item.tobytes() for item in items["latent"]}) == 4
    image = TensorSpec("image", "UINT8", (-1, -1, 3))
    pictures = make_items([image], None, 32, 2)["image"]
    assert pictures.shape == (2, 32, 32, 3)
    smooth, noise = (np.abs(np.diff(each.astype(int), axis=0)).mean() for each in pictures)
    assert smooth < noise / 4
    assert pictures[0].std() > 20, "no single colour"
    assert make_items([TensorSpec("index", "INT64", (2,))], None, 0, 2)["index"].tolist() == [[0, 0], [0, 0]]
    with pytest.raises(RunFailed, match="input of text"):
        make_items([replace(image, dtype="BYTES")], None, 32, 1)


@pytest.mark.parametrize(
    ("items", "whole", "text"),
    [
        ((), (), ""),
        ((4,), (False, True), "items have other bytes in a batch of 4 than alone"),
        ((3,), (True,), "items have other bytes in a batch of 3 with the whole device than alone"),
        ((1,), (True,), "items have other bytes in a batch of 1 with the whole device than alone"),
    ],
    ids=["none", "batch", "batch-whole", "whole"],
)
def test_an_item_whose_bytes_depend_on_its_batch_is_told(
    items: tuple[int, ...], whole: tuple[bool, ...], text: str, tmp_path: Path
) -> None:
    write_generator(tmp_path)

    def change(outputs: Outputs, size: int, whole_device: bool) -> Outputs:
        if size in items and whole_device in whole:
            outputs["image"] = one_value(outputs["image"][::-1], 0)[::-1]  # of the last item
        return outputs

    engine = Changed(OnnxCpuEngine(tmp_path / "model.onnx", 2, 2, True), change)
    subject = Subject(engine, 2, 30.0)
    given = make_items(engine.inputs, None, 0, 4)
    alone = [subject.run({"latent": given["latent"][index : index + 1]}) for index in range(4)]
    assert mixing(subject, given, alone, [1, 2, 3, 4], lambda: None) == text
    engine.close()


def test_a_run_beside_another_one_must_have_the_same_bytes_too(tmp_path: Path) -> None:
    write_generator(tmp_path)
    running: list[int] = []

    def change(outputs: Outputs, size: int, whole_device: bool) -> Outputs:
        running.append(size)
        if running[-3:] == [2, 2, 2]:  # alone, with the whole device, and now on the lanes
            outputs["image"] = outputs["image"] ^ np.uint8(1)
        return outputs

    engine = Changed(OnnxCpuEngine(tmp_path / "model.onnx", 2, 2, True), change)
    subject = Subject(engine, 2, 30.0)
    given = make_items(engine.inputs, None, 0, 2)
    alone = [subject.run({"latent": given["latent"][index : index + 1]}) for index in range(2)]
    found = mixing(subject, given, alone, [2], lambda: None)
    assert found == "items have other bytes in a batch of 2 on several lanes than alone"
    engine.close()
