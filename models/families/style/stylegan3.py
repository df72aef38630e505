"""StyleGAN3: Karras, Aittala, Laine, Harkonen, Hellsten, Lehtinen, Aila, "Alias-Free Generative Adversarial Networks",
2021, arXiv:2106.12423.

Reads the generators of NVlabs/stylegan3, configurations t and r: pickles, or state dicts with keys
`synthesis.L<index>_<side>_<channels>...`. Differences: float32 throughout (`force_fp32`); activations are scaled
instead of weights, gains folded into weights; styles are normalised for each image, not over the batch, which is what
the authors' scripts do with their batches of one; zeros are never inserted, transposed convolutions filter instead.
Sizes are those that the published configurations lead to; a pickle's arguments, or `--set`, change them.
"""

from collections.abc import Mapping

from artifact.spec import Scalar, Task
from models.architecture import Architecture, Generator, Setting, StateDict
from models.families.style.stylegan2_ops import ToW
from models.families.style.stylegan3_config import GEOMETRY, INPUT, LAYER, named_layers, synthesis_config
from models.families.style.stylegan3_synthesis import Synthesis
from models.families.style.stylegan_mapping import (
    KEYS,
    OUTPUT_RANGE,
    SETTINGS,
    TOLERANCE,
    StyleGenerator,
    mapping_config,
    mapping_settings,
)
from models.state_dict import require_shapes

SCALE = Setting(0.25, "output_scale, the factor of the image")
CLAMP = Setting(256.0, "conv_clamp, the largest absolute value that a layer gives; 0 means any")


def _matches(state: StateDict) -> bool:
    return (
        all(KEYS.fullmatch(key) or LAYER.fullmatch(key) or INPUT.fullmatch(key) for key in state)
        and mapping_config(state) is not None
        and len(named_layers(state)) > 2
        and all(f"synthesis.{layer.name}.weight" in state for layer in named_layers(state))
        and "synthesis.input.affine.weight" in state
    )


def _configure(config: Mapping[str, object]) -> dict[str, Scalar]:
    """Settings from a pickle's arguments, which are named as they are here."""
    settings = mapping_settings(config)
    for name, setting in {**GEOMETRY, "output_scale": SCALE, "conv_clamp": CLAMP}.items():
        value = config.get(name)
        if isinstance(value, int | float):
            settings[name] = type(setting.default)(value)
        elif name in config and name == "conv_clamp":
            settings[name] = 0.0
    return settings


def _build(state: StateDict, settings: Mapping[str, Scalar]) -> Generator:
    mapping = mapping_config(state)
    assert mapping is not None, "only called where _matches"
    config = synthesis_config(state, settings)
    require_shapes(state, mapping.shapes() | config.shapes())
    synthesis = Synthesis(state, config, float(settings["conv_clamp"]), float(settings["output_scale"]))
    side, colours = config.img_resolution, config.layers[-1].outer
    inputs = ("latent", *(["label"] if mapping.classes else []), "truncation_psi", "w", "w_given", "transform")
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
            "img_channels": colours,
            "num_layers": len(config.layers) - 1,
            "config": config.config,
        },
        channels=colours,
        output_range=OUTPUT_RANGE,
        max_batch_size=max(1, min(16, 2**20 // side**2)),
        image_size_px=(side, side),
        latent_size=mapping.z_dim,
        classes=mapping.classes,
        truncation_default=1.0,
        w_shape=(config.latents, mapping.w_dim),
        mapping=ToW(network.mapping, network.latents),
        truncation_cutoff=network.cutoff,
        takes_transform=True,
        tolerance=TOLERANCE,
    )


ARCHITECTURE = Architecture(
    name="stylegan3",
    reference="NVlabs/stylegan3",
    matches=_matches,
    build=_build,
    settings={**GEOMETRY, "output_scale": SCALE, "conv_clamp": CLAMP, **SETTINGS},
    configure=_configure,
)
