"""ProGAN (Karras and others, 2017, arXiv:1710.10196) as facebookresearch/pytorch_GAN_zoo trains it.

Reads its `<name>_s<scale>_i<iteration>.pt`, {config, netG, netD, avgG}, of which avgG is used, and the published ones;
with `.module` in the keys, which the repository leaves out in what it saves, or without. The file's config says
what no tensor does: whether the image goes through tanh (training with MSE or DCGAN losses), how far the last stage
was faded in, whether weights are scaled when they are used, the leaky ReLU's slope, and the attributes behind the
latent, which are one label here, the last attribute counting fastest.
"""

import itertools
from collections.abc import Mapping
from math import prod, sqrt

import torch

from artifact.spec import Scalar
from models.architecture import Architecture, ArchitectureError, Generator, Setting, StateDict
from models.families.basic.latent_code import Conditioned, Distribution, LatentCode, Section
from models.families.style.progan import ProganGenerator, as_generator, widths_of
from models.state_dict import Rules, load, rename, shape

MAX_CLASSES = 10_000
RULES: Rules = {
    r"formatLayer\.(?:module\.)?(weight|bias)": r"first.\1",
    r"groupScale0\.0\.(?:module\.)?(weight|bias)": r"conv.\1",
    r"scaleLayers\.(\d+)\.0\.(?:module\.)?(weight|bias)": r"stages.\1.conv1.\2",
    r"scaleLayers\.(\d+)\.1\.(?:module\.)?(weight|bias)": r"stages.\1.conv2.\2",
    r"toRGBLayers\.(\d+)\.(?:module\.)?(weight|bias)": r"rgb.\1.\2",
}
SETTINGS = {
    "output": Setting("none", "the last function: tanh for losses other than WGANGP", ("none", "tanh")),
    "alpha": Setting(0.0, "how much of the image still comes without the last stage, 0 to 1"),
    "equalized": Setting("yes", "whether weights are scaled by their number when they are used", ("yes", "no")),
    "slope": Setting(0.2, "of the leaky ReLUs"),
    "attributes": Setting("", "numbers of values of the attributes behind the latent, as 10 or 2,3"),
}


def _plain(state: StateDict) -> dict[str, torch.Tensor]:
    """The state under the names of `ProganGenerator`; empty if it is none."""
    plain = rename(state, RULES, strict=True)
    widths = widths_of(plain)
    return plain if widths and shape(plain, "first.weight", 2)[0] == 16 * widths[0] else {}


def _attributes(text: str, inputs: int) -> list[int]:
    """The number of each attribute's values."""
    sizes = [int(part) for part in text.split(",") if part.strip().isdecimal()]
    if len(sizes) != len(text.split(",")) * bool(text) or 0 in sizes:
        raise ArchitectureError(f"attributes={text}: must be numbers of values, as 10 or 2,3")
    if sum(sizes) >= inputs or prod(sizes) > MAX_CLASSES:
        raise ArchitectureError(
            f"attributes={text}: the first layer has {inputs} inputs, the latent among them, and {MAX_CLASSES} "
            "combinations of values can be labels"
        )
    return sizes


def _build(state: StateDict, settings: Mapping[str, Scalar]) -> Generator:
    plain = _plain(state)
    widths, inputs = widths_of(plain), plain["first.weight"].shape[1]
    fade, sizes = float(settings["alpha"]), _attributes(str(settings["attributes"]), inputs)
    if not 0 <= fade <= 1 or (fade and len(widths) < 2):
        raise ArchitectureError(f"alpha={fade:g}: must be 0 to 1, and 0 where there is no stage to fade in")
    if settings["equalized"] == "yes":  # the repository scales what a layer gives, its bias included
        scales = {
            key[:-7]: sqrt(2 / prod(tensor.shape[1:])) for key, tensor in plain.items() if key.endswith(".weight")
        }
        plain = {key: tensor * scales[key.rpartition(".")[0]] for key, tensor in plain.items()}
    last = len(widths) - 1
    wanted: Rules = {
        rf"rgb\.{last}\.(.+)": r"last.\1",
        **({rf"rgb\.{last - 1}\.(.+)": r"smaller.\1"} if fade else {}),
        r"rgb\..+": None,
    }
    channels, is_tanh = plain["rgb.0.weight"].shape[0], settings["output"] == "tanh"
    body = ProganGenerator(inputs, widths, channels, (True, True), fade, is_tanh, float(settings["slope"]))
    network = load(body, rename(plain, wanted))
    if sizes:
        rows = [torch.cat(row) for row in itertools.product(*(torch.eye(size) for size in sizes))]
        sections = [Section(Distribution.NORMAL, inputs - sum(sizes)), Section(Distribution.LABEL, sum(sizes))]
        network = Conditioned(LatentCode(sections, torch.stack(rows)), network)
    classes = prod(sizes) if sizes else 0
    extra: dict[str, Scalar] = {"alpha": fade} if fade else {}
    return as_generator(network, widths, channels, inputs - sum(sizes), classes, extra)


def _configure(config: Mapping[str, object]) -> Mapping[str, Scalar]:
    """What the file's own config says."""
    own = {key.removeprefix("beside.config."): value for key, value in config.items()}
    found: dict[str, Scalar] = {}
    if isinstance(loss := own.get("lossCriterion"), str):
        found["output"] = "tanh" if loss in ("MSE", "DCGAN") else "none"
    for key, name in (("alpha", "alpha"), ("leakyReluLeak", "slope")):
        if isinstance(value := own.get(key), int | float):
            found[name] = float(value)
    if isinstance(equalized := own.get("equalizedlR"), bool):
        found["equalized"] = "yes" if equalized else "no"
    places = {key: value for key, value in own.items() if key.startswith("attribKeysOrder.") and key.endswith(".order")}
    sizes = [
        own.get(f"{key.removesuffix('order')}values.length") for key in sorted(places, key=lambda key: str(places[key]))
    ]
    if sizes:
        found["attributes"] = ",".join(map(str, sizes))
    return found


def _relative(state: StateDict) -> str | None:
    if any(key.startswith("fromRGBLayers.") for key in state) and any(key.startswith("decisionLayer") for key in state):
        return "a ProGAN discriminator (fromRGBLayers, decisionLayer), not the generator"
    return None


ARCHITECTURE = Architecture(
    name="progan-zoo",
    reference="facebookresearch/pytorch_GAN_zoo ProgressiveGAN",
    matches=lambda state: bool(_plain(state)),
    build=_build,
    settings=SETTINGS,
    relative=_relative,
    configure=_configure,
)
