"""Which shapes an engine is built for: what users write, the default, and what is refused."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from artifact.shapes import Sides
from artifact.spec import ShapeRange, TensorSpec, Tile
from export.engine.profiles import NetworkShapes, default_profiles, largest_batch, parse_profiles, profile_text
from export.errors import ExportError
from server.images import tiling

LATENT = TensorSpec("latent", "FP32", (100,))
LABEL = TensorSpec("label", "INT64", ())
PIXELS = TensorSpec("image", "UINT8", (-1, -1, 3))
PLANES = TensorSpec("image", "FP32", (3, -1, -1))

GENERATOR = NetworkShapes((LATENT, LABEL), 32)
UPSCALER = NetworkShapes((PIXELS,), 8, Sides(tile_px=128))
TRANSLATOR = NetworkShapes((PIXELS,), 4, Sides(multiple_px=32, least_px=40))


def refused(text: str, sentence: str, network: NetworkShapes = TRANSLATOR) -> None:
    with pytest.raises(ExportError) as caught:
        parse_profiles((text,), network)
    told = str(caught.value)
    assert told.startswith(f"--profile {text}: ")
    assert sentence in told
    assert "\n" not in told


def test_a_network_that_generates_gets_every_batch_and_is_tuned_for_full_ones() -> None:
    assert parse_profiles((), GENERATOR) == (
        {"latent": ShapeRange((1, 100), (32, 100), (32, 100)), "label": ShapeRange((1,), (32,), (32,))},
    )


def test_an_upscaler_gets_every_tile_and_is_tuned_for_whole_ones() -> None:
    assert parse_profiles((), UPSCALER) == ({"image": ShapeRange((1, 1, 1, 3), (8, 128, 128, 3), (8, 128, 128, 3))},)


def test_a_translator_gets_images_up_to_512_px_and_is_tuned_for_256() -> None:
    assert parse_profiles((), TRANSLATOR) == (
        {"image": ShapeRange((1, 64, 64, 3), (4, 256, 256, 3), (4, 512, 512, 3))},
    )


def test_networks_that_need_more_than_the_usual_sizes_get_what_they_need() -> None:
    (deep,) = default_profiles(NetworkShapes((PIXELS,), 1, Sides(multiple_px=512)))
    assert deep["image"] == ShapeRange((1, 512, 512, 3), (1, 512, 512, 3), (1, 512, 512, 3))
    (wide,) = default_profiles(NetworkShapes((PIXELS,), 1, Sides(least_px=700)))
    assert wide["image"] == ShapeRange((1, 700, 700, 3), (1, 700, 700, 3), (1, 700, 700, 3))


def test_a_networks_own_tensors_have_height_and_width_behind_the_channels() -> None:
    assert parse_profiles(("1,2,4:64x96",), NetworkShapes((PLANES,), 4, Sides(multiple_px=32))) == (
        {"image": ShapeRange((1, 3, 64, 96), (2, 3, 64, 96), (4, 3, 64, 96))},
    )


def test_each_size_makes_a_profile_and_a_range_is_tuned_for_its_largest() -> None:
    found = parse_profiles(("1,8,8:64x64,128x64-512x256", "1,1,1:1024x1024"), TRANSLATOR)
    assert found == (
        {"image": ShapeRange((1, 64, 64, 3), (8, 64, 64, 3), (8, 64, 64, 3))},
        {"image": ShapeRange((1, 128, 64, 3), (8, 512, 256, 3), (8, 512, 256, 3))},
        {"image": ShapeRange((1, 1024, 1024, 3), (1, 1024, 1024, 3), (1, 1024, 1024, 3))},
    )


def test_batches_without_a_size_keep_the_usual_sizes() -> None:
    (found,) = parse_profiles(("1,2,16",), UPSCALER)
    assert found["image"] == ShapeRange((1, 1, 1, 3), (2, 128, 128, 3), (16, 128, 128, 3))


@given(
    height=st.integers(1, 3000),
    width=st.integers(1, 3000),
    multiple=st.sampled_from([1, 2, 4]),
    size=st.integers(72, 400),
)
def test_every_tile_that_the_server_cuts_fits_the_usual_profile(
    height: int, width: int, multiple: int, size: int
) -> None:
    cut = tiling.tile_grid(height, width, Tile(size, 16, multiple, 16, 0.0))
    (profile,) = default_profiles(NetworkShapes((PIXELS,), 8, Sides(multiple, tile_px=size)))
    assert profile["image"].contains((1, cut.tile_height, cut.tile_width, 3))
    assert profile["image"].contains((8, cut.tile_height, cut.tile_width, 3))


@given(
    side=st.tuples(st.integers(1, 512), st.integers(1, 512)),
    multiple=st.sampled_from([1, 4, 32, 256]),
    least=st.integers(1, 64),
)
def test_every_image_up_to_512_px_fits_a_translators_usual_profile(
    side: tuple[int, int], multiple: int, least: int
) -> None:
    whole = tiling.whole_grid(*side, multiple, least)
    (profile,) = default_profiles(NetworkShapes((PIXELS,), 4, Sides(multiple, least)))
    shape = (4, whole.tile_height, whole.tile_width, 3)
    assert profile["image"].contains(shape)
    assert all(size % multiple == 0 and size >= least for size in profile["image"].min[1:3])


SIDES = st.integers(1, 40).map(lambda sixteenths: 16 * sixteenths)
RANGES = st.tuples(SIDES, SIDES, st.integers(0, 3), st.integers(0, 3)).map(
    lambda found: (
        f"{found[0]}x{found[1]}" + (f"-{found[0] + 16 * found[2]}x{found[1] + 16 * found[3] + 16}" * any(found[2:]))
    )
)


@given(batch=st.integers(1, 64), sizes=st.lists(RANGES, min_size=1, max_size=4, unique=True))
def test_a_profiles_text_is_what_the_option_accepts(batch: int, sizes: list[str]) -> None:
    network = NetworkShapes((PIXELS,), 4, Sides(multiple_px=16))
    found = parse_profiles((f"1,{batch},{batch}:{','.join(sizes)}",), network)
    texts = [profile_text(profile, network.inputs) for profile in found]
    assert texts == [f"1,{batch},{batch}:{size}" for size in sizes]
    assert parse_profiles(texts, network) == found
    assert largest_batch(found) == batch


def test_a_profiles_text_says_what_a_range_is_tuned_for_if_that_is_not_its_largest() -> None:
    assert profile_text(default_profiles(TRANSLATOR)[0], (PIXELS,)) == "1,4,4:64x64-512x512 (tuned for 256x256)"
    assert profile_text(default_profiles(GENERATOR)[0], GENERATOR.inputs) == "1,32,32"


@pytest.mark.parametrize(
    "text",
    ["", "1,8", "1,8,8,8", "a,b,c", "1,8,8:", "1,8,8:64", "1,8,8:64x64-", "1,8,8:64x-64", "-1,8,8", "١,8,8", "1;8;8"],
)
def test_a_profile_that_is_not_written_as_expected_is_refused_with_an_example(text: str) -> None:
    refused(text, "expected min,opt,max[:HxW or HxW-HxW,...], as in 1,8,8:64x64,128x128-512x512")


def test_batches_must_rise() -> None:
    for text in ("4,2,8", "1,9,8", "0,1,1"):
        refused(text, f"{text} is not min <= opt <= max with a min of 1 or more")


def test_sizes_must_be_ones_that_the_network_accepts() -> None:
    refused("1,4,4:32x64", "32 px, the network accepts 64 px or more")
    refused("1,4,4:64x100", "100 px, the network accepts multiples of 32 px")
    refused("1,4,4:64x64-300x512", "300 px, the network accepts multiples of 32 px")
    refused("1,4,4:128x64-64x128", "in 128x64-64x128 the largest size is below the smallest")
    refused("1,4,4:64x64", "the network's images have a fixed size; leave out :64x64", GENERATOR)


def test_every_batch_below_the_largest_needs_a_profile() -> None:
    refused("4,8,8", "no profile accepts a batch of 1 to 3", GENERATOR)
    with pytest.raises(ExportError, match="--profile 1,1,1: no profile accepts a batch of 2; the server forms every"):
        parse_profiles(("1,1,1", "3,8,8"), GENERATOR)
    assert largest_batch(parse_profiles(("2,32,32", "1,1,1"), GENERATOR)) == 32


def test_the_largest_batch_can_have_images_of_every_size() -> None:
    assert largest_batch(parse_profiles(("1,32,32:64x64", "1,8,8:256x256"), TRANSLATOR)) == 8
    assert largest_batch(parse_profiles(("1,32,32:64x64-512x512", "1,1,1:256x256"), TRANSLATOR)) == 32, (
        "covered by both"
    )
    assert largest_batch(parse_profiles(("1,2,2:64x64", "1,16,16:64x64-512x512"), TRANSLATOR)) == 16
