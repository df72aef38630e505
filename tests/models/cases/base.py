"""What the shared tests need to know of a network: its reference, what must be inferred, how its authors call it."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from artifact.spec import Scalar


def _first(network: nn.Module, arrays: Mapping[str, Tensor]) -> Tensor:
    """Calls it with the inputs as they are, in order."""
    image: Tensor = network(*arrays.values())
    return image


def _state(network: nn.Module) -> Mapping[str, Tensor]:
    state: Mapping[str, Tensor] = network.state_dict()
    return state


def _nothing(network: nn.Module) -> None:
    return


@dataclass(frozen=True)
class Case:
    """A small network of a training repository, written anew in tests/models/references, and what is known of it.

    `hyperparameters` is all that must be inferred from what `file` gives: the state dict as the repository saves it.
    `shape` is (N, H, W, C) for two rows; images in are `sizes_px[0]`. `call` is how the repository calls its network:
    inputs by `Generator.inputs` name -> (N, C, H, W). `ambiguous_with`: architectures that rightly take the file too.
    `prepare` is called once random weights are in. `tolerance` is of float32 outputs, absolute. `graph`: the case is
    exported and served, one for every kind of network (see tests/models/test_architectures.py).
    """

    architecture: str
    reference: Callable[[], nn.Module]
    hyperparameters: Mapping[str, Scalar]
    shape: tuple[int, int, int, int]
    call: Callable[[nn.Module, Mapping[str, Tensor]], Tensor] = _first
    file: Callable[[nn.Module], Mapping[str, Tensor]] = _state
    overrides: Mapping[str, str] = field(default_factory=dict)
    config: Mapping[str, object] = field(default_factory=dict)
    arch: str = "auto"
    ambiguous_with: tuple[str, ...] = ()
    sizes_px: tuple[tuple[int, int], tuple[int, int]] = ((24, 32), (36, 20))
    tolerance: float = 2e-4
    prepare: Callable[[nn.Module], None] = _nothing
    graph: bool = False


def trained(network: nn.Module) -> dict[str, Tensor]:
    """A state dict as after training: weights of natural size, BatchNorm statistics far from 0 and 1; by numpy."""
    random = np.random.RandomState(1)
    state: dict[str, Tensor] = {}
    for key, tensor in network.state_dict().items():
        array = _random(key, tuple(tensor.shape), random)
        state[key] = torch.from_numpy(np.asarray(array)).to(tensor.dtype)
    return state


def _random(key: str, shape: tuple[int, ...], random: np.random.RandomState) -> NDArray[np.generic]:
    if key.endswith("num_batches_tracked"):
        return np.array(1000)
    if key.endswith(("running_var", "running_vars", "stored_var")):
        return random.uniform(0.5, 2.0, shape)
    if key.endswith(("running_mean", "running_means", "stored_mean", "bias")):
        return random.normal(0, 0.1, shape)
    if len(shape) <= 1:
        return random.uniform(0.1, 1.2, shape)
    # Of a transposed conv with kernel 4 and stride 2, each output sees 2x2 pixels of each input map.
    fan_in = 4 * shape[0] if key.startswith("main.") else int(np.prod(shape[1:]))
    return random.normal(0, 1.2 / np.sqrt(fan_in), shape)


def ready(case: Case) -> nn.Module:
    """The case's reference network with `trained` weights in, in eval mode."""
    network = case.reference()
    network.load_state_dict(trained(network))
    case.prepare(network)
    return network.eval().requires_grad_(False)
