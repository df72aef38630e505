"""Lightweight GAN with both kinds of excitation."""

import torch
from torch import nn

from tests.models.cases.base import Case
from tests.models.references.lightweight_gan import Blur, FrequencyContext, Trainer, generate


def _constants(network: nn.Module) -> None:
    """Buffers that the repository computes rather than trains."""
    for module in network.modules():
        if isinstance(module, Blur):
            module.f.copy_(torch.tensor([1.0, 2.0, 1.0]))
        if isinstance(module, FrequencyContext):
            fresh = FrequencyContext(module.dct_weights.shape[1], 4, module.dct_weights.shape[2])
            module.dct_weights.copy_(fresh.dct_weights)


CASES = {
    "lightweight-gan": Case(
        "lightweight-gan",
        lambda: Trainer(12, [12, 16, 16, 12, 8, 6], [8, 16], by_frequency=False),
        {
            "image_size": 128,
            "latent_dim": 12,
            "channels": 3,
            "attn_res_layers": "8,16",
            "freq_chan_attn": False,
            "noise": "input",
        },
        (2, 128, 128, 3),
        call=generate,
        prepare=_constants,
    ),
    "lightweight-gan-frequencies": Case(
        "lightweight-gan",
        lambda: Trainer(12, [12, 16, 32, 12, 8, 6], [], by_frequency=True),
        {
            "image_size": 128,
            "latent_dim": 12,
            "channels": 3,
            "attn_res_layers": "",
            "freq_chan_attn": True,
            "noise": "input",
        },
        (2, 128, 128, 3),
        call=generate,
        prepare=_constants,
    ),
    "lightweight-gan-attention-8": Case(
        "lightweight-gan",
        lambda: Trainer(12, [12, 16, 16, 12, 8], [8], by_frequency=False),
        {
            "image_size": 64,
            "latent_dim": 12,
            "channels": 3,
            "attn_res_layers": "8",
            "freq_chan_attn": False,
            "noise": "input",
        },
        (2, 64, 64, 3),
        call=generate,
        prepare=_constants,
        graph=True,
    ),
}
