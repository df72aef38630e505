"""Whether a module can be exported as it is; checked before it is run."""

from typing import TYPE_CHECKING, Any

from ganserve.module.errors import ExportError

if TYPE_CHECKING:
    import torch
    from torch import nn

WRAPPERS = {"DataParallel": "module", "DistributedDataParallel": "module", "OptimizedModule": "_orig_mod"}


def plain(given: object) -> "nn.Module":
    """The network itself: taken out of DataParallel, torch.compile and torch.export's program.

    Raises:
        ExportError: it is no module.
    """
    import torch
    from torch import nn

    if isinstance(given, torch.export.ExportedProgram):
        return given.module()
    if isinstance(given, dict):
        raise ExportError(
            "module is a dict; load_state_dict it into your network and give that, or run `ganserve export` on its file"
        )
    if isinstance(given, type) and issubclass(given, nn.Module):
        raise ExportError(f"module is the class {given.__name__}; give a network of it, with its weights loaded")
    if not isinstance(given, nn.Module):
        raise ExportError(f"module is a {type(given).__name__}, must be a torch.nn.Module")
    inner = WRAPPERS.get(type(given).__name__)
    return plain(getattr(given, inner)) if inner else given


def require_exportable(module: "nn.Module") -> None:
    """Checks mode, device and type.

    Raises:
        ExportError: with what to call first.
    """
    for name, part in module.named_modules():
        if getattr(part, "training", False) and not is_traced(module):
            where = f" in its part {name!r}" if name and not getattr(module, "training", False) else ""
            raise ExportError(
                f"the module is in training mode{where}, where batch norm and dropout differ: call .eval() on it first"
            )
    for name, tensor in _tensors(module):
        if tensor.device.type != "cpu":
            what = f"{name} is on {tensor.device}"
            if tensor.device.type == "meta":
                raise ExportError(f"{what}, without values; load the weights first")
            raise ExportError(f"{what}; give a copy on the CPU: export_module(copy.deepcopy(netG).cpu(), ...)")
        if (tensor.is_floating_point() or tensor.is_complex()) and str(tensor.dtype) != "torch.float32":
            raise ExportError(
                f"{name} is {tensor.dtype}, must be torch.float32; give a copy: "
                "export_module(copy.deepcopy(netG).float(), ...)"
            )


def first_width(module: "nn.Module") -> str:
    """What the first layer takes, in words; empty if no layer says."""
    for name, part in module.named_modules():
        for field in ("in_features", "in_channels"):
            if isinstance(size := getattr(part, field, None), int):
                return f"; its first layer, {type(part).__name__} {name!r}, takes {size}"
    return ""


def is_traced(module: "nn.Module") -> bool:
    """Graphs of torch.export say that they are in training mode whatever they were traced in."""
    from torch import fx

    return isinstance(module, fx.GraphModule)


def _tensors(module: "nn.Module") -> "list[tuple[str, torch.Tensor]]":
    found: list[tuple[str, Any]] = [*module.named_parameters(), *module.named_buffers()]
    return found
