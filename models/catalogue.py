"""The architectures that can be exported, and which of them a state dict is."""

from collections.abc import Mapping

from artifact.spec import Scalar
from models.architecture import Architecture, ArchitectureError, Generator, Setting, StateDict
from models.families.basic import (
    cdcgan,
    cgan,
    dcgan,
    fastgan,
    fc_dcgan,
    infogan,
    lapgan,
    lightweight_gan,
    mlp,
    upsampling,
)
from models.families.residual import biggan, biggan_deep, r3gan, sagan_heykeetae, sngan, sngan_cosgrove, studiogan
from models.families.style import progan, progan_zoo, psp, stylegan2, stylegan2_ada, stylegan2_lucidrains, stylegan3
from models.families.superres import dat, msrresnet, omnisr, plksr, rrdb, span, srresnet, srvgg, swinir
from models.families.translation import (
    animegan2,
    gfpgan,
    pix2pix_pytorch_gan,
    pix2pixhd,
    resnet_translator,
    spade,
    stargan,
    stargan_v2,
    ugatit,
    unet,
)
from models.layer_settings import SETTINGS as LAYERS
from models.layer_settings import layer_values, set_layers
from models.nearest import nearest

ARCHITECTURES: Mapping[str, Architecture] = {
    entry.name: entry
    for entry in (
        dcgan.ARCHITECTURE,
        cgan.ARCHITECTURE,
        mlp.MLP,
        mlp.CGAN_MLP,
        upsampling.DCGAN_UPSAMPLING,
        upsampling.ACGAN,
        upsampling.SGAN,
        infogan.ARCHITECTURE,
        cdcgan.ARCHITECTURE,
        fc_dcgan.ARCHITECTURE,
        srvgg.ARCHITECTURE,
        rrdb.ARCHITECTURE,
        span.ARCHITECTURE,
        plksr.ARCHITECTURE,
        swinir.ARCHITECTURE,
        dat.ARCHITECTURE,
        omnisr.ARCHITECTURE,
        srresnet.ARCHITECTURE,
        msrresnet.ARCHITECTURE,
        fastgan.ARCHITECTURE,
        lightweight_gan.ARCHITECTURE,
        lapgan.ARCHITECTURE,
        biggan.ARCHITECTURE,
        stylegan2.ARCHITECTURE,
        stylegan2_ada.ARCHITECTURE,
        stylegan2_lucidrains.ARCHITECTURE,
        stylegan3.ARCHITECTURE,
        psp.ARCHITECTURE,
        sngan.ARCHITECTURE,
        sngan.CGAN_PD,
        sngan.SAGAN,
        unet.ARCHITECTURE,
        pix2pix_pytorch_gan.ARCHITECTURE,
        resnet_translator.ARCHITECTURE,
        resnet_translator.CUT,
        resnet_translator.CYCLEGAN,
        pix2pixhd.ARCHITECTURE,
        biggan_deep.ARCHITECTURE,
        studiogan.ARCHITECTURE,
        r3gan.ARCHITECTURE,
        progan.ARCHITECTURE,
        progan_zoo.ARCHITECTURE,
        sagan_heykeetae.ARCHITECTURE,
        sngan_cosgrove.ARCHITECTURE,
        animegan2.ARCHITECTURE,
        ugatit.ARCHITECTURE,
        spade.ARCHITECTURE,
        gfpgan.ARCHITECTURE,
        stargan.ARCHITECTURE,
        stargan_v2.ARCHITECTURE,
    )
}


def require_architecture(name: str) -> None:
    """Nothing, if it is auto or an architecture's name.

    Raises:
        ArchitectureError: it is neither.
    """
    if name != "auto" and name not in ARCHITECTURES:
        raise ArchitectureError(f"--arch {name}: must be auto or one of {', '.join(ARCHITECTURES)}")


def recognise(state: StateDict, name: str = "auto") -> tuple[str, ...]:
    """The names of the architectures whose generator these weights may be; of the given one alone if it is not auto."""
    if name != "auto":
        entry = ARCHITECTURES.get(name)
        return (name,) if entry and (entry.accepts or entry.matches)(state) else ()
    return tuple(entry.name for entry in ARCHITECTURES.values() if entry.matches(state))


def describe(state: StateDict) -> str:
    """What weights are that are no known generator: a relative, or what is nearest and what differs."""
    for entry in ARCHITECTURES.values():
        if sentence := entry.relative(state):
            return sentence
    return nearest(state, ARCHITECTURES)


def detect(state: StateDict, among: Mapping[str, Architecture] = ARCHITECTURES) -> Architecture:
    """The one architecture whose generator these weights are.

    Raises:
        ArchitectureError: none, several, or a relative that is no generator.
    """
    found = [entry for entry in among.values() if entry.matches(state)]
    if len(found) == 1:
        return found[0]
    if found:
        names = ", ".join(entry.name for entry in found)
        raise ArchitectureError(f"the weights fit {names}; say which with --arch")
    for entry in among.values():
        if sentence := entry.relative(state):
            raise ArchitectureError(f"the weights are {sentence}")
    raise ArchitectureError(f"no known generator: {nearest(state, among)}; `ganserve architectures` lists the known")


def build(
    state: StateDict,
    name: str = "auto",
    overrides: Mapping[str, str] | None = None,
    config: Mapping[str, object] | None = None,
) -> tuple[str, Generator]:
    """(architecture's name, generator) of a state dict.

    `overrides` are the user's `--set KEY=VALUE`, `config` what a file that belongs to the checkpoint says.

    Raises:
        ArchitectureError: unknown or wrong architecture, unknown setting, or weights that do not fit.
    """
    require_architecture(name)
    entry = detect(state) if name == "auto" else ARCHITECTURES[name]
    if not (entry.accepts or entry.matches)(state):
        sentence = entry.relative(state) or f"beginning {', '.join(list(state)[:3])}"
        raise ArchitectureError(f"--arch {name}: the weights are not its generator: {sentence}")
    overrides, config = overrides or {}, config or {}
    try:
        generator = entry.build(state, _settings(entry, overrides, config))
        return entry.name, set_layers(generator, _layer_settings(entry, generator, overrides, config))
    except ArchitectureError as error:
        raise ArchitectureError(f"{entry.name}: {error}") from None
    except (ArithmeticError, LookupError, RuntimeError, TypeError, ValueError) as error:  # of shapes that contradict
        line = (str(error).splitlines() or [""])[0][:160]
        raise ArchitectureError(f"{entry.name}: has its keys, with shapes that do not fit together: {line}") from None


def _layer_settings(
    entry: Architecture, generator: Generator, overrides: Mapping[str, str], config: Mapping[str, object]
) -> dict[str, Scalar]:
    """What the user, or a network that was pickled whole, says of layers that the architecture has no setting for."""
    found: dict[str, Scalar] = {}
    for key, setting in LAYERS.items():
        value = config.get(f"layers.{key}")
        if key in overrides and key not in entry.settings:
            found[key] = setting.parse(key, overrides[key])
        elif key in layer_values(generator) and key not in entry.settings and isinstance(value, float | str):
            found[key] = value
    return found


def told(entry: Architecture, config: Mapping[str, object]) -> dict[str, Scalar]:
    """The settings that a config file tells, or the layers of a network that was pickled whole (`layers.eps`)."""
    found: dict[str, Scalar] = {}
    for key, setting in entry.settings.items():
        value = config.get(f"layers.{key}")
        if isinstance(value, bool | int | float | str) and (not setting.choices or value in setting.choices):
            found[key] = type(setting.default)(value)
    return {**found, **entry.configure(config)}


def settable(name: str, generator: Generator) -> dict[str, Setting]:
    """What `--set` can change of a generator of this architecture."""
    own = ARCHITECTURES[name].settings
    return {**own, **{key: LAYERS[key] for key in layer_values(generator) if key not in own}}


def assumed(
    name: str, generator: Generator, overrides: Mapping[str, str], config: Mapping[str, object]
) -> dict[str, Scalar]:
    """The settings of a generator that neither the user nor a file says, with the value that is taken for each."""
    entry = ARCHITECTURES[name]
    known = {
        *overrides,
        *told(entry, config),
        *generator.settled,
        *(key for key in LAYERS if f"layers.{key}" in config),
    }
    defaults = {key: setting.default for key, setting in entry.settings.items()}
    values = {**defaults, **{key: value for key, value in layer_values(generator).items() if key not in defaults}}
    return {key: value for key, value in values.items() if key not in known}


def _settings(entry: Architecture, overrides: Mapping[str, str], config: Mapping[str, object]) -> dict[str, Scalar]:
    """Every setting's value: the user's, else the config file's or the pickled layers', else the default."""
    settings = {key: setting.default for key, setting in entry.settings.items()}
    settings.update(told(entry, config))
    for key, text in overrides.items():
        if key not in entry.settings and key in LAYERS:
            continue
        if key not in entry.settings:
            can = ", ".join((*entry.settings, *LAYERS))
            raise ArchitectureError(f"--set {key}: read from the weights, or there is no such thing; settable: {can}")
        settings[key] = entry.settings[key].parse(key, text)
    return settings
