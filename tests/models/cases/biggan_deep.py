"""BigGAN-deep as huggingface/pytorch-pretrained-BigGAN publishes it, and with another config."""

from artifact.spec import Scalar
from tests.models.cases.base import Case
from tests.models.references.biggan_deep import BigGan, call, call_truncated
from tests.models.references.spectral import unit_vectors

LAYERS = ((False, 4, 2), (True, 2, 1))
ODD_LAYERS = ((True, 4, 4), (False, 4, 2), (True, 2, 2), (True, 2, 1))
FACTS: dict[str, Scalar] = {
    "output_dim": 8,
    "z_dim": 10,
    "channel_width": 8,
    "num_classes": 5,
    "layers": 2,
    "attention_layer_position": 1,
    "n_stats": 51,
}

CASES = {
    "biggan-deep": Case(
        "biggan-deep",
        lambda: BigGan(10, 5, 8, LAYERS, 1),
        FACTS,
        (2, 8, 8, 3),
        call=call,
        prepare=unit_vectors,
        tolerance=1e-3,
        graph=True,
    ),
    "biggan-deep-configured": Case(
        "biggan-deep",
        lambda: BigGan(10, 5, 8, ODD_LAYERS, 2, stats=21, eps=0.01),
        FACTS | {"output_dim": 32, "layers": 4, "attention_layer_position": 2, "n_stats": 21},
        (2, 32, 32, 3),
        call=call_truncated,
        overrides={"latent": "truncated"},
        config={"eps": 0.01, "layers": [list(layer) for layer in ODD_LAYERS], "n_stats": 21},
        prepare=unit_vectors,
        tolerance=1e-3,
    ),
}
