"""`ganserve verify`: whether a model makes exactly this image from a seed, which proves where the image is from; of a
file alone, what it says of itself."""

import importlib
import io
import json
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
from numpy.typing import NDArray
from PIL import Image

from ganserve.cli.change_options import (
    CenterOption,
    CutoffOption,
    EditOption,
    MixOption,
    RotateOption,
    TranslateOption,
    WithoutOption,
    read_changes,
)
from ganserve.cli.connect import (
    DEADLINE_S,
    SERVER,
    ApiKeyOption,
    AuthorityOption,
    DeadlineOption,
    JsonOption,
    ServerOption,
    connect,
)
from ganserve.cli.files import VersionOption
from ganserve.cli.generate_options import (
    LabelsOption,
    NoiseSeedsOption,
    SeedsOption,
    ThenOption,
    TruncationOption,
    read_generate_options,
)
from ganserve.cli.output import CommandError, counted, print_json
from ganserve.client.extras import Extras
from ganserve.client.results import GeneratedImage

# IPTC's digital source types, http://cv.iptc.org/newscodes/digitalsourcetype/; the longer one first.
SOURCES = {
    "compositeWithTrainedAlgorithmicMedia": "a network changed it",
    "trainedAlgorithmicMedia": "a network made it",
}
# Nothing is fetched from where a file says.
C2PA_SETTINGS = {"verify": {"remote_manifest_fetch": False, "ocsp_fetch": False}}

GivenArgument = Annotated[
    list[str],
    typer.Argument(
        metavar="[MODEL] IMAGE",
        help="Name of the model, as `ganserve models` lists it; PNG, lossless WebP, or another lossless file.",
    ),
]


def verify(
    given: GivenArgument,
    seeds: SeedsOption = "0",
    labels: LabelsOption = None,
    truncation: TruncationOption = None,
    noise_seeds: NoiseSeedsOption = None,
    edit: EditOption = None,
    without: WithoutOption = None,
    mix: MixOption = None,
    truncation_cutoff: CutoffOption = None,
    truncation_center: CenterOption = None,
    translate: TranslateOption = None,
    rotate: RotateOption = None,
    then: ThenOption = None,
    version: VersionOption = "",
    server: ServerOption = SERVER,
    deadline: DeadlineOption = DEADLINE_S,
    ca: AuthorityOption = None,
    api_key_file: ApiKeyOption = None,
    as_json: JsonOption = False,
) -> None:
    """Generates the images of --seeds again, with the same options, and compares every pixel with IMAGE.

    Exit code 0: one is the same, so that this model made IMAGE from that seed. Else 2, with the closest seed: IMAGE may
    be of another model, version, engine or option, or was changed since.

    Without MODEL no server is asked: exit code 0 if the file says that a network made or changed it, as the server's
    --mark has it, which proves nothing unless it is signed; else 2.
    """
    if len(given) > 2:
        raise CommandError(f"{len(given)} arguments; give a model and an image, or an image alone")
    image = Path(given[-1])
    if len(given) == 1:
        what = (labels, truncation, noise_seeds, edit, without, mix, truncation_cutoff, truncation_center, translate)
        if seeds != "0" or any((*what, rotate, then, version)):
            raise CommandError("options of what is generated, such as --seeds, need a model beside the image")
        _show_marks(image, as_json)
        return
    model = given[0]
    with _opened(image) as opened:
        wanted = np.asarray(opened)
    changes = read_changes(edit, without, mix, None, truncation_cutoff, truncation_center, translate, rotate)
    options, n = read_generate_options(seeds, None, None, None, labels, truncation, noise_seeds, changes)
    options |= {"then": then or [], "version": version, "format": "raw"}
    with connect(server, deadline, ca, api_key_file) as client, counted(n, model) as advance:
        difference, made = _closest(client.generate_stream(model, **options), wanted, image, advance)
    if as_json:
        facts = {"seed": made.seed, "label": made.label, "model": made.model, "version": made.version}
        print_json({"identical": difference == 0, "mean_difference_levels": difference, **facts})
    if difference:
        raise CommandError(
            f"{image}: none of {n} images is the same; the closest, of seed {made.seed}, differs by {difference:.3g} "
            "levels on average"
        )
    if not as_json:
        print(f"{image}  identical to seed {made.seed} of {made.model} version {made.version}")


@contextmanager
def _opened(image: Path) -> Iterator[Image.Image]:
    try:
        with Image.open(image) as opened:
            yield opened
    except (OSError, ValueError, Image.DecompressionBombError) as error:
        raise CommandError(f"{image}: cannot be read as an image: {error}") from None


def _closest(
    generated: Iterable[GeneratedImage], wanted: NDArray[Any], image: Path, advance: Callable[[], None]
) -> tuple[float, GeneratedImage]:
    """The mean difference in levels of the one that is most like the image, and that one."""
    closest: tuple[float, GeneratedImage] | None = None
    for made in generated:
        difference = _difference(made.array, wanted, image)
        if closest is None or difference < closest[0]:
            closest = difference, made
        advance()
    assert closest is not None, "at least one image is generated"
    return closest


def _show_marks(image: Path, as_json: bool) -> None:
    """Shows what the file says of where it is from.

    Raises:
        CommandError: nothing of a network, or its signature is not valid.
    """
    with _opened(image) as opened:
        data, packet, media_type = (
            image.read_bytes(),
            Extras.of(opened).xmp or b"",
            Image.MIME.get(opened.format or "", ""),
        )
    source = next((name for name in SOURCES if f"digitalsourcetype/{name}".encode() in packet), "")
    state, signed = ("", "") if b"c2pa" not in data else _signature(data, media_type)
    source = source or signed
    if as_json:
        print_json({"source_type": source, "signature": state})
    if state == "Invalid":
        raise CommandError(f"{image}: its C2PA signature is not valid: image or manifest were changed since")
    if not source:
        raise CommandError(
            f"{image}: does not say that a network made it; to compare it with a model: ganserve verify MODEL {image} "
            "--seeds 0-999"
        )
    if not as_json:
        told = {
            "": "not signed",
            "Valid": "signed (C2PA), by whom your system does not know",
            "Trusted": "signed (C2PA)",
        }
        print(f"{image}  says that {SOURCES[source]} ({source}); {told[state]}")


def _signature(data: bytes, media_type: str) -> tuple[str, str]:
    """Valid, Trusted or Invalid, and the source type that its manifest says; "" each if there is none."""
    try:
        c2pa: Any = importlib.import_module("c2pa")
    except ModuleNotFoundError:
        raise CommandError("the file seems to be signed (C2PA): pip install 'ganserve[c2pa]' to read that") from None
    context = c2pa.Context(c2pa.Settings.from_dict(C2PA_SETTINGS))
    try:
        with c2pa.Reader(media_type, io.BytesIO(data), context=context) as reader:
            said = json.loads(reader.json())
            state = str(reader.get_validation_state())
    except (c2pa.C2paError.ManifestNotFound, c2pa.C2paError.NotSupported):
        return "", ""
    except c2pa.C2paError:  # what is there cannot be read
        return "Invalid", ""
    active = json.dumps(said["manifests"][said["active_manifest"]])
    return state, next((name for name in SOURCES if f"digitalsourcetype/{name}" in active), "")


def _difference(made: NDArray[np.uint8], wanted: NDArray[Any], image: Path) -> float:
    """Mean difference in levels."""
    pixels = wanted[:, :, None] if wanted.ndim == 2 else wanted
    if pixels.shape != made.shape or pixels.dtype != np.uint8:
        has, makes = (" x ".join(map(str, array.shape)) for array in (pixels, made))
        raise CommandError(f"{image}: is {has} {pixels.dtype}, the model makes {makes} uint8; it did not make this one")
    return float(np.abs(pixels.astype(int) - made).mean())
