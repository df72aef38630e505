"""StyleGAN2-ADA: Karras, Aittala, Hellsten, Laine, Lehtinen, Aila, "Training Generative Adversarial Networks with
Limited Data", 2020, arXiv:2006.06676; the generator is that of StyleGAN2 (arXiv:1912.04958).

Reads the generators of NVlabs/stylegan2-ada-pytorch, of `--cfg=stylegan2` in NVlabs/stylegan3 and of StyleGAN2 in
autonomousvision/projected-gan: pickles, or state dicts with keys `mapping.fc0...`, `synthesis.b4...`; architectures
skip, resnet and orig. Differences: float32 throughout (`force_fp32`); activations are scaled instead of weights, the
gains folded into weights; noise is the stored maps by default, as in the authors' scripts, and can be left out or
become an input; random noise is that input, sampled by the caller.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass

from artifact.spec import Scalar, Task
from models.architecture import Architecture, ArchitectureError, Generator, Setting, StateDict
from models.families.style.stylegan2_ops import ToW
from models.families.style.stylegan2_synthesis import Synthesis, noise_sizes_px
from models.families.style.stylegan_mapping import (
    KEYS,
    OUTPUT_RANGE,
    SETTINGS,
    TOLERANCE,
    StyleGenerator,
    fully_connected,
    mapping_config,
    mapping_settings,
)
from models.state_dict import require_shapes

NOISE = Setting("const", "the stored noise maps, no noise, or noise as an input", ("const", "none", "input"))
CLAMP = Setting(256.0, "conv_clamp, the largest absolute value that a layer gives; 0 means any")
SYNTHESIS_KEYS = re.compile(
    r"synthesis\.b\d+\.(const|resample_filter|skip\.(weight|resample_filter)|torgb\.(weight|bias|affine\.(weight|bias))"
    r"|conv[01]\.(weight|bias|noise_strength|noise_const|resample_filter|affine\.(weight|bias)))"
)


@dataclass(frozen=True)
class StyleGan2SynthesisConfig:
    """Sizes of a synthesis network. `widths`: channels at 4, 8, 16 ... pixels; `taps`: side of the FIR kernel."""

    architecture: str
    widths: tuple[int, ...]
    img_channels: int
    w_dim: int
    taps: int
    noise: bool

    @property
    def resolutions(self) -> tuple[int, ...]:
        """Sides of the blocks' images."""
        return tuple(4 * 2**index for index in range(len(self.widths)))

    @property
    def latents(self) -> int:
        """How many intermediate latents it takes: one for each convolution, one for the last image."""
        return 2 * len(self.widths)

    def gives_image(self, side: int) -> bool:
        """Whether the block of that side has an image of its own."""
        return self.architecture == "skip" or side == self.resolutions[-1]

    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Every tensor's shape by key."""
        shapes: dict[str, tuple[int, ...]] = {"synthesis.b4.const": (self.widths[0], 4, 4)}
        for side, inner, width in zip(self.resolutions, (0, *self.widths), self.widths, strict=False):
            block = f"synthesis.b{side}"
            shapes[f"{block}.resample_filter"] = (self.taps, self.taps)
            shapes |= self._conv(f"{block}.conv1", side, width, width)
            if inner:
                shapes |= self._conv(f"{block}.conv0", side, inner, width)
            if inner and self.architecture == "resnet":
                shapes[f"{block}.skip.weight"] = (width, inner, 1, 1)
                shapes[f"{block}.skip.resample_filter"] = (self.taps, self.taps)
            if self.gives_image(side):
                shapes[f"{block}.torgb.weight"] = (self.img_channels, width, 1, 1)
                shapes[f"{block}.torgb.bias"] = (self.img_channels,)
                shapes |= fully_connected(f"{block}.torgb.affine", self.w_dim, width)
        return shapes

    def _conv(self, prefix: str, side: int, inner: int, outer: int) -> dict[str, tuple[int, ...]]:
        shapes = {f"{prefix}.weight": (outer, inner, 3, 3), f"{prefix}.bias": (outer,)}
        if self.noise:
            shapes |= {f"{prefix}.noise_const": (side, side), f"{prefix}.noise_strength": ()}
        shapes[f"{prefix}.resample_filter"] = (self.taps, self.taps)
        return shapes | fully_connected(f"{prefix}.affine", self.w_dim, inner)


def synthesis_config(state: StateDict) -> StyleGan2SynthesisConfig | None:
    """The sizes of the synthesis network in a state dict; None if it has none."""
    widths: list[int] = []
    while f"synthesis.b{4 * 2 ** len(widths)}.conv1.bias" in state:
        widths.append(len(state[f"synthesis.b{4 * 2 ** len(widths)}.conv1.bias"]))
    last = f"synthesis.b{2 * 2 ** len(widths)}"
    needed = ("synthesis.b4.const", "synthesis.b4.resample_filter", "synthesis.b4.conv1.affine.weight")
    if not widths or any(key not in state for key in (*needed, f"{last}.torgb.bias")):
        return None
    if "synthesis.b8.skip.weight" in state:
        architecture = "resnet"
    else:
        architecture = "skip" if "synthesis.b4.torgb.bias" in state else "orig"
    return StyleGan2SynthesisConfig(
        architecture=architecture,
        widths=tuple(widths),
        img_channels=len(state[f"{last}.torgb.bias"]),
        w_dim=state["synthesis.b4.conv1.affine.weight"].shape[-1],
        taps=len(state["synthesis.b4.resample_filter"]),
        noise="synthesis.b4.conv1.noise_const" in state,
    )


def _matches(state: StateDict) -> bool:
    return (
        synthesis_config(state) is not None
        and mapping_config(state) is not None
        and all(KEYS.fullmatch(key) or SYNTHESIS_KEYS.fullmatch(key) for key in state)
        and state["synthesis.b4.const"].shape[1:] == (4, 4)
    )


def _relative(state: StateDict) -> str | None:
    if "b4.out.weight" in state and any(key.endswith(".fromrgb.weight") for key in state):
        return "a StyleGAN2 discriminator (b4.out, fromrgb), not the generator"
    if "synthesis.init.init.0.weight_orig" in state:
        return "projected-gan's own FastGAN generator (synthesis.init), which is not served; its StyleGAN2 is"
    return None


def _configure(config: Mapping[str, object]) -> dict[str, Scalar]:
    """Settings from a pickle's attributes, which are those of the network that was trained."""
    settings = mapping_settings(config)
    activation = config.get("synthesis.b4.conv1.activation", "lrelu")
    if activation != "lrelu":
        raise ArchitectureError(f"synthesis network with activation {str(activation)[:20]}; lrelu is served")
    if "synthesis.b4.conv1.conv_clamp" in config:
        clamp = config["synthesis.b4.conv1.conv_clamp"]
        settings["conv_clamp"] = float(clamp) if isinstance(clamp, int | float) else 0.0
    return settings


def _build(state: StateDict, settings: Mapping[str, Scalar]) -> Generator:
    config, mapping = synthesis_config(state), mapping_config(state)
    assert config is not None, "only called where _matches"
    assert mapping is not None
    require_shapes(state, mapping.shapes() | config.shapes())
    noise = str(settings["noise"])
    if noise == "input" and not config.noise:
        raise ArchitectureError("noise=input: the generator was trained without noise")
    noise = noise if config.noise else "none"
    synthesis = Synthesis(state, config.architecture, config.resolutions, float(settings["conv_clamp"]), noise)
    side = config.resolutions[-1]
    takes = {"label": mapping.classes > 0, "noise": noise == "input"}
    inputs = [name for name in ("latent", "label", "noise", "truncation_psi", "w", "w_given") if takes.get(name, True)]
    network = StyleGenerator(state, mapping, settings, synthesis, config.latents, inputs)
    return Generator(
        network=network,
        task=Task.CLASS_CONDITIONAL if mapping.classes else Task.UNCONDITIONAL,
        hyperparameters={
            "z_dim": mapping.z_dim,
            "c_dim": mapping.classes,
            "w_dim": mapping.w_dim,
            "mapping_layers": len(mapping.features),
            "img_resolution": side,
            "img_channels": config.img_channels,
            "architecture": config.architecture,
            "noise": noise,
        },
        channels=config.img_channels,
        output_range=OUTPUT_RANGE,
        max_batch_size=max(1, min(32, 2**22 // side**2)),
        image_size_px=(side, side),
        latent_size=mapping.z_dim,
        classes=mapping.classes,
        noise_size=sum(size * size for size in noise_sizes_px(config.resolutions)) if noise == "input" else 0,
        truncation_default=1.0,
        w_shape=(config.latents, mapping.w_dim),
        mapping=ToW(network.mapping, network.latents),
        truncation_cutoff=network.cutoff,
        tolerance=TOLERANCE,
    )


ARCHITECTURE = Architecture(
    name="stylegan2-ada",
    reference="NVlabs/stylegan2-ada-pytorch",
    matches=_matches,
    build=_build,
    settings={"noise": NOISE, "conv_clamp": CLAMP, **SETTINGS},
    relative=_relative,
    configure=_configure,
)
