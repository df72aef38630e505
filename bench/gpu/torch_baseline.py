"""Torch as the yardstick: the checkpoints' own modules, eager, with pixels inside as in the exported graphs."""

import copy
import dataclasses
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn

from bench.gpu.device import Device
from bench.gpu.report import Unavailable, first_line
from bench.gpu.runs import Feed, Pixels, Placed


@dataclass(frozen=True)
class Torch:
    """A generator's module in float32 on the CPU, with pixels inside; `half` is the same with its network in fp16."""

    draws: bool
    module: nn.Module
    half: nn.Module


class HalfNetwork(nn.Module):
    """A network in float16 between float32 tensors; what is not floating point passes as it is."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = copy.deepcopy(network).half()

    def forward(self, *inputs: torch.Tensor) -> torch.Tensor:
        """(N, C, H, W) float32, as the network gives."""
        given = (tensor.half() if tensor.is_floating_point() else tensor for tensor in inputs)
        picture: torch.Tensor = self.network(*given)
        return picture.float()


def torch_model(checkpoint: Path | str, cache: Path | None) -> Torch:
    """The generator of a checkpoint or zoo entry.

    Raises:
        Unavailable: it cannot be fetched, read or built here.
    """
    try:
        from export.graph.pixels import wrap
        from export.source import open_source

        generator = open_source(checkpoint, "auto", {}, cache, lambda line: None).generator
    except Exception as error:
        raise Unavailable(f"no checkpoint: {first_line(error)}") from error
    half = dataclasses.replace(generator, network=HalfNetwork(generator.network))
    return Torch(generator.task.draws, wrap(generator, "uint8"), wrap(half, "uint8"))


class TorchRun:
    """Eager torch in its default memory format; its host copies are from and to pageable memory."""

    def __init__(self, module: nn.Module, device: Device, tf32: bool) -> None:
        self._device = device
        self._module = copy.deepcopy(module).to(device.torch)
        device.set_tf32(tf32)

    def run(self, feed: Feed) -> Pixels:
        """See `Hosted`."""
        with torch.inference_mode():
            output: torch.Tensor = self._module(*self._moved(feed))
            pixels: Pixels = output.cpu().numpy()
        return pixels

    def place(self, feed: Feed) -> Placed:
        """See `OnDevice`."""
        inputs = self._moved(feed)

        @torch.inference_mode()
        def start() -> None:
            self._module(*inputs)

        return Placed(start, self._device.finish)

    def _moved(self, feed: Feed) -> list[torch.Tensor]:
        return [torch.from_numpy(array).to(self._device.torch) for array in feed.values()]

    def close(self) -> None:
        """Frees the weights; what runs next is without TF32 again."""
        del self._module
        self._device.set_tf32(False)


class TorchGraph(TorchRun):
    """The same as one CUDA graph for each set of shapes."""

    def place(self, feed: Feed) -> Placed:
        """See `OnDevice`."""
        inputs = self._moved(feed)
        aside = torch.cuda.Stream()  # type: ignore[no-untyped-call]
        aside.wait_stream(torch.cuda.current_stream())
        with torch.inference_mode(), torch.cuda.stream(aside):  # runs before the recording, as torch requires
            for _ in range(3):
                self._module(*inputs)
        torch.cuda.current_stream().wait_stream(aside)
        graph = torch.cuda.CUDAGraph()
        with torch.inference_mode(), torch.cuda.graph(graph):
            self._module(*inputs)
        return Placed(graph.replay, self._device.finish)
