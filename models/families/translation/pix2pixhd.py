"""pix2pixHD: Wang, Liu, Zhu, Tao, Kautz, Catanzaro, "High-Resolution Image Synthesis and Semantic Manipulation with
Conditional GANs", 2017, arXiv:1711.11585.

Reads the checkpoints of NVIDIA/pix2pixHD (`<epoch>_net_G.pth`): the global generator (`model.<i>`) and the global one
with local enhancers (`model<n>_1.<i>`, `model<n>_2.<i>`). Instance norm or batch norm; every conv has a bias. Running
statistics of an InstanceNorm are ignored.
What goes in is a label map: R is the label, 256*G + B the instance, whose borders the network sees as edges; a grey
image says both at once. With 3 input channels it is an image in RGB. Other counts of channels can be read in several
ways, so `--set input` says which. Instance features (`--instance_feat`, `--label_feat`) are not served.
Differences: batch norm uses its stored statistics; the repository's test script never calls eval(), which is
`--set norm_statistics=picture`. A label beyond the last is no label (the repository stops with an error).
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import nn

from artifact.spec import Scalar, Task
from models.architecture import Architecture, ArchitectureError, Generator, Setting, StateDict
from models.families.translation.label_maps import ImageWithInstances, LabelMap
from models.families.translation.patch_discriminators import describe
from models.families.translation.translator_layers import (
    NORM_STATISTICS,
    ResnetConfig,
    ResnetTranslator,
    block_indices,
    holds,
    last_index,
    without_statistics,
    without_unused_statistics,
)
from models.state_dict import load

DEFAULT_CHANNELS = 36  # 35 labels and the edges
MOST_HALVINGS = 8
INPUTS = ("auto", "rgb", "rgb+instances", "labels", "labels+instances")


@dataclass(frozen=True)
class EnhancedConfig:
    """A global generator at the smallest size, `enhancers` times refined at twice the size by `local_blocks` blocks."""

    coarse: ResnetConfig
    enhancers: int
    local_blocks: int

    def local(self, step: int) -> ResnetConfig:
        """The enhancer `step`, counted from 1; half as wide as what it refines."""
        width = self.coarse.width >> step
        return replace(self.coarse, width=width, blocks=self.local_blocks, halvings=1)

    @property
    def halvings(self) -> int:
        """How often the image is halved in all."""
        return self.coarse.halvings + self.enhancers


class EnhancedTranslator(nn.Module):
    """The global generator without its last conv, on a smaller image, and enhancers that add what it cannot see."""

    def __init__(self, config: EnhancedConfig) -> None:
        super().__init__()
        self.enhancers = config.enhancers
        self.model = nn.Sequential(*config.coarse.descending(), *config.coarse.residual(), *config.coarse.ascending())
        for step in range(1, config.enhancers + 1):
            local = config.local(step)
            last = local.final() if step == config.enhancers else []
            self.add_module(f"model{step}_1", nn.Sequential(*local.descending()))
            self.add_module(f"model{step}_2", nn.Sequential(*local.residual(), *local.ascending(), *last))

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """(N, outputs, H, W) float32 in [-1, 1] from `image` (N, inputs, H, W) float32.

        H and W are multiples of 2^halvings.
        """
        pyramid = [image]
        for _ in range(self.enhancers):
            pyramid.append(F.avg_pool2d(pyramid[-1], 3, 2, 1, count_include_pad=False))
        maps: torch.Tensor = self.model(pyramid[-1])
        for step in range(1, self.enhancers + 1):
            seen = self.get_submodule(f"model{step}_1")(pyramid[self.enhancers - step])
            maps = self.get_submodule(f"model{step}_2")(seen + maps)
        return maps


def _global_config(state: StateDict, has_final: bool) -> ResnetConfig | None:
    """The Sequential `model.<i>`, with or without the last 7x7 conv; None if it is none."""
    blocks, last = block_indices(state), last_index(state)
    first, final = state.get("model.1.weight"), state.get(f"model.{last}.weight")
    if not blocks or first is None or first.ndim != 4 or (has_final and (final is None or final.ndim != 4)):
        return None
    halvings = (blocks[0] - 4) // 3
    if not 1 <= halvings <= MOST_HALVINGS:
        return None
    kind = "batch" if "model.2.weight" in state else "instance"
    outputs = final.shape[0] if has_final and final is not None else 0
    return ResnetConfig(first.shape[1], outputs, first.shape[0], len(blocks), kind, biased=True, halvings=halvings)


def _config(state: StateDict) -> ResnetConfig | EnhancedConfig | None:
    """What the weights are; None if they are no pix2pixHD generator."""
    steps = {int(found[1]) for key in state if (found := re.match(r"model(\d+)_1\.", key))}
    if not steps:
        return _global_config(state, has_final=True)
    coarse = _global_config(state, has_final=False)
    prefix = f"model{len(steps)}_2."
    final = state.get(f"{prefix}{last_index(state, prefix)}.weight")
    if coarse is None or final is None or final.ndim != 4 or coarse.width >> len(steps) == 0:
        return None
    return EnhancedConfig(replace(coarse, outputs=final.shape[0]), len(steps), len(block_indices(state, prefix)))


def _network(config: ResnetConfig | EnhancedConfig) -> nn.Module:
    return ResnetTranslator(config) if isinstance(config, ResnetConfig) else EnhancedTranslator(config)


def _accepts(state: StateDict) -> bool:
    weights = without_unused_statistics(state)
    config = _config(weights)
    return config is not None and holds(lambda: _network(config), weights)


def _matches(state: StateDict) -> bool:
    """Where junyanz' ResnetGenerator is the same in all, only what cannot be its image is taken for ours."""
    config = _config(without_unused_statistics(state))
    is_resnet = (
        isinstance(config, ResnetConfig) and config.halvings == 2 and config.kind == "instance" and config.inputs <= 3
    )
    return not is_resnet and _accepts(state)


def _encode(inputs: int, kind: str) -> tuple[nn.Module | None, Mapping[str, Scalar]]:
    """(what turns an image's levels into `inputs` channels, the hyper-parameters that this settles).

    Raises:
        ArchitectureError: the channels can be read in several ways, or not in the one asked for.
    """
    if kind == "auto":
        kind = {3: "rgb", DEFAULT_CHANNELS: "labels+instances"}.get(inputs, "auto")
    if kind == "auto":
        choices = [f"{inputs} labels (--set input=labels)"]
        choices += [f"{inputs - 1} labels and instance edges (--set input=labels+instances)"] if inputs > 1 else []
        choices += ["an image and instance edges (--set input=rgb+instances)"] if inputs == 4 else []
        raise ArchitectureError(f"{inputs} input channels can be {', or '.join(choices)}")
    has_instances = kind.endswith("+instances")
    labels = 0 if kind.startswith("rgb") else inputs - has_instances
    if labels == 0 and inputs != 3 + has_instances:
        raise ArchitectureError(f"input={kind} needs {3 + has_instances} input channels, the weights have {inputs}")
    found: dict[str, Scalar] = {"label_nc": labels, "no_instance": not has_instances}
    if labels:
        return LabelMap(labels, has_instances), found
    return (ImageWithInstances() if has_instances else None), found


def _build(state: StateDict, settings: Mapping[str, Scalar]) -> Generator:
    weights = without_unused_statistics(state)
    config = _config(weights)
    assert config is not None, "only called where _accepts"
    coarse = config if isinstance(config, ResnetConfig) else config.coarse
    encode, read = _encode(coarse.inputs, str(settings["input"]))
    served = config
    if coarse.kind == "batch" and settings["norm_statistics"] == "picture":
        weights = without_statistics(weights)
        own = replace(coarse, kind="picture")
        served = own if isinstance(config, ResnetConfig) else replace(config, coarse=own)
    return Generator(
        network=load(_network(served), weights),
        task=Task.IMAGE_TO_IMAGE,
        hyperparameters={**_hyperparameters(config), **read},
        channels=coarse.outputs,
        output_range=(-1.0, 1.0),
        max_batch_size=1,
        input_range=(-1.0, 1.0),
        input_channels=4 if read["label_nc"] == 0 and encode else 3,
        encode=encode,
        input_levels=int(read["label_nc"]) or 256,
        multiple_px=2**config.halvings,
        least_px=2 ** (config.halvings + 1),  # the blocks reflect a border of one pixel
    )


def _hyperparameters(config: ResnetConfig | EnhancedConfig) -> Mapping[str, Scalar]:
    coarse = config if isinstance(config, ResnetConfig) else config.coarse
    enhancers = 0 if isinstance(config, ResnetConfig) else config.enhancers
    found: dict[str, Scalar] = {
        "input_nc": coarse.inputs,
        "output_nc": coarse.outputs,
        "ngf": coarse.width >> enhancers,
        "n_downsample_global": coarse.halvings,
        "n_blocks_global": coarse.blocks,
        "n_local_enhancers": enhancers,
        "norm": coarse.kind,
    }
    return found if isinstance(config, ResnetConfig) else {**found, "n_blocks_local": config.local_blocks}


ARCHITECTURE = Architecture(
    name="pix2pixhd",
    reference="NVIDIA/pix2pixHD GlobalGenerator, LocalEnhancer",
    matches=_matches,
    accepts=_accepts,
    build=_build,
    settings={
        "norm_statistics": NORM_STATISTICS,
        "input": Setting("auto", "what the input channels are; auto: 3 are rgb, 36 labels+instances", INPUTS),
    },
    relative=describe,
)
