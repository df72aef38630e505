"""`python -m bench.gpu.random_weights DIR`: checkpoints of StyleGAN2-ADA and StyleGAN3-T at 256 px with random weights.

For their speed: nobody trained them. Needs the whole checkout, for the reference networks of the tests.
"""

import sys
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import nn


def networks() -> Mapping[str, nn.Module]:
    """Each by name, in its repository's usual size, with weights that keep magnitudes."""
    from tests.models.references import nvidia_stylegan2, nvidia_stylegan3

    widths = (512, 512, 512, 512, 256, 128, 64)
    synthesis: dict[str, object] = {"channel_base": 16384, "channel_max": 512, "num_layers": 14}
    second = nvidia_stylegan2.Generator(512, 0, 512, 256, 3, 8, widths, conv_clamp=256)
    third = nvidia_stylegan3.Generator(512, 0, 512, 256, 3, synthesis=synthesis)
    nvidia_stylegan3.prepare(third)
    return {"stylegan2-256": second, "stylegan3-256": third}


def fill(network: nn.Module) -> None:
    """Normal weights, styles of one, everything else zero."""
    random = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for name, tensor in network.named_parameters():
            if name.endswith(("weight", "const")) and tensor.ndim > 1:
                tensor.normal_(generator=random).mul_(100 if "mapping" in name else 1)  # its learning rate is 0.01
            else:
                tensor.fill_(1.0 if name.endswith("affine.bias") else 0.0)


def main() -> None:
    """Writes the two files."""
    folder = Path(sys.argv[1])
    folder.mkdir(parents=True, exist_ok=True)
    for name, network in networks().items():
        fill(network)
        torch.save(network.state_dict(), folder / f"{name}.pt")
        print(folder / f"{name}.pt")


if __name__ == "__main__":
    main()
