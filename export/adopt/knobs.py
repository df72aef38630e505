"""What a request may set beside latent and label, in a graph's own inputs: noise, truncation, w."""

from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx.helper import tensor_dtype_to_np_dtype

from artifact.spec import TRUNCATION_RANGE, TensorSpec
from export.adopt.plain import Plain, RunError
from export.adopt.roles import Roles, Tensor
from export.adopt.wrap import Core, noise_sizes
from export.errors import ExportError

Arrays = dict[str, NDArray[np.generic]]

PSIS = (1.0, 0.7, 0.3)  # of the items that a graph is run on
RANGES = (TRUNCATION_RANGE, (0.0, 1.0), (0.05, 1.0))
# Shapes of one psi for all items that let each have its own, if what it is multiplied with has so many axes.
FORMS: tuple[tuple[int, ...], ...] = ((-1, 1, 1), (-1, 1), (-1,), (-1, 1, 1, 1))


def own_knobs(roles: Roles, at: int, seed: int) -> Arrays:
    """Of item `at`, as the graph takes them; the last item of three is made from a w of its own."""
    found: Arrays = {}
    random = np.random.RandomState(1000 + seed)
    for tensor in roles.noise:
        found[tensor.name] = _typed(random.randn(*_single(tensor)), tensor)
    if roles.truncation is not None:
        found[roles.truncation.name] = own_psi(roles.truncation, PSIS[at])
    if roles.w is not None and roles.w_given is not None:
        given = at == 2
        found[roles.w.name] = _typed(random.randn(1, *roles.w.shape[1:]) * 0.5 * given, roles.w)
        found[roles.w_given.name] = np.full(1, given, np.float32)
    return found


def own_psi(tensor: Tensor, psi: float) -> NDArray[np.generic]:
    """One psi, as the graph takes it."""
    return _typed(np.full(_single(tensor), psi), tensor)


def served_knobs(roles: Roles, items: Sequence[Arrays]) -> Arrays:
    """The same of all items, as requests have them."""
    found: Arrays = {}
    if roles.noise:
        rows = [np.concatenate([item[tensor.name].ravel() for tensor in roles.noise]) for item in items]
        found["noise"] = np.stack(rows).astype(np.float32)
    if roles.truncation is not None:
        found["truncation_psi"] = np.array([item[roles.truncation.name].flat[0] for item in items], np.float32)
    for name, tensor in (("w", roles.w), ("w_given", roles.w_given)):
        if tensor is not None:
            found[name] = np.concatenate([item[tensor.name] for item in items])
    return found


def knob_specs(roles: Roles) -> tuple[TensorSpec, ...]:
    """The same as the manifest lists them."""
    found = []
    if roles.noise:
        found.append(TensorSpec("noise", "FP32", (sum(noise_sizes(roles)),)))
    if roles.truncation is not None:
        found.append(TensorSpec("truncation_psi", "FP32", ()))
    if roles.w is not None:
        found += [TensorSpec("w", "FP32", roles.w.shape[1:]), TensorSpec("w_given", "FP32", ())]
    return tuple(found)


def psi_forms(core: Core, items: Sequence[Arrays]) -> Iterator[tuple[Core, Sequence[Arrays]]]:
    """The graph and its inputs; where one psi is for all items, also in forms that may let each have its own."""
    psi = core.roles.truncation
    if psi is None or psi.shape:
        yield core, items
    if psi is None or psi.shape not in ((), (1,)):
        return
    for form in FORMS:
        proto = onnx.ModelProto()
        proto.CopyFrom(core.proto)
        value = next(one for one in proto.graph.input if one.name == psi.name)
        value.CopyFrom(onnx.helper.make_tensor_value_info(psi.name, psi.element_type, ["N", *form[1:]]))
        shaped = replace(psi, shape=form)
        reshaped = [{**item, psi.name: item[psi.name].reshape(_single(shaped))} for item in items]
        yield replace(core, proto=proto, roles=replace(core.roles, truncation=shaped)), reshaped


def psi_range(plain: Plain, item: Arrays, single: NDArray[np.generic], roles: Roles) -> tuple[float, float]:
    """What psi may be: between numbers that the graph runs with.

    Raises:
        ExportError: it runs with none, or gives the same image.
    """
    assert roles.truncation is not None
    name = roles.truncation.name

    def image(psi: float) -> NDArray[np.generic]:
        assert roles.truncation is not None
        found = plain.run({**item, name: own_psi(roles.truncation, psi)}, roles.output.name)
        if not np.isfinite(found).all():
            raise RunError("NaN or infinity")
        return found

    reason = ""
    for low, high in RANGES:
        try:
            image(high)
            changed = not np.array_equal(image(low), single)
        except RunError as error:
            reason = reason or str(error)
            continue
        if not changed:
            raise ExportError(f"--truncation {_plain(name)}: the image is the same whatever its value is")
        return low, high
    raise ExportError(f"--truncation {_plain(name)}: the graph does not run with {RANGES[-1]}: {reason}")


def _plain(name: str) -> str:
    return name.partition("/")[2]


def _single(tensor: Tensor) -> tuple[int, ...]:
    """The shape of one item's values; that of all, where the first axis is no batch."""
    return tuple(1 if axis < 0 else axis for axis in tensor.shape)


def _typed(values: NDArray[np.generic], tensor: Tensor) -> NDArray[np.generic]:
    return np.asarray(values, tensor_dtype_to_np_dtype(tensor.element_type))
