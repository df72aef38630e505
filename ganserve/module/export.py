"""`ganserve.export_module`: a network in a notebook or a training script -> a version in a model repository.

The network is traced in the caller's process, where its code runs anyway. The graph is then adopted by the command
`ganserve export`, in a process of its own: the packages of that command have names (`models`, `server`) that a training
repository may have too.
"""

import json
import re
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ganserve.module.checks import plain, require_exportable
from ganserve.module.errors import ExportError
from ganserve.module.samples import Samples, find_samples
from ganserve.module.trace import trace

if TYPE_CHECKING:
    from torch import nn

NEEDED = ("torch", "onnx", "onnxruntime", "onnxscript", "safetensors")
# The package's parent comes last: it may be a site-packages folder, or a checkout with folders of any name.
COMMAND = "import sys; sys.path.append(sys.argv.pop(1)); from ganserve.__main__ import main; sys.exit(main())"


@dataclass(frozen=True)
class Exported:
    """The version's folder, its manifest as JSON values, and what should be known of it."""

    folder: Path
    manifest: Mapping[str, Any]
    notes: tuple[str, ...]


def export_module(
    module: "nn.Module",
    *,
    repository: Path | str,
    name: str,
    latent_size: int | tuple[int, ...] | None = None,
    classes: int | None = None,
    labels: Sequence[str] | None = None,
    task: str | None = None,
    range: tuple[float, float] = (-1.0, 1.0),
    input_range: tuple[float, float] | None = None,
    layout: str | None = None,
    version: int | None = None,
    progress: Callable[[str], None] | None = None,
) -> Exported:
    """Writes a network of yours into a model repository, after comparing its graph with it.

    >>> ganserve.export_module(netG.eval(), latent_size=64, range=(-1, 1), repository="repository", name="mine")

    Args:
        module: float32, on the CPU, in eval mode. Takes the latent (N, latent_size) or (N, latent_size, 1, 1), with
            `classes` also the class, as number (N,) int64 or one-hot (N, classes) float32; without `latent_size` an
            image (N, C, H, W). Returns an image, (N, C, H, W) or (N, H, W, C), of 1, 3 or 4 channels.
        repository: folder of the model repository; made if it is missing.
        name: of the served model.
        latent_size: values of the latent, or the shape of one.
        classes: how many there are, if the module is class-conditional.
        labels: their names; default "0", "1", ...
        task: "super-resolution" or "image-to-image", if the image that comes out is as large as the one that goes in.
        range: values of black and white in the image that comes out.
        input_range: the same of the image that goes in; default: as `range`.
        layout: "NCHW" or "NHWC", of images of so few px that their shape does not tell.
        version: default: the next free one.
        progress: called with a line for each step.

    Raises:
        ExportError: something is not as it should be; nothing was written.
    """
    _require_target(Path(repository), name)
    _require_arguments(latent_size, classes, labels, task, range, input_range)
    options = {
        "--repository": str(repository),
        "--name": name,
        "--latent": None if latent_size is None else "latent",
        "--label": None if classes is None else "label",
        "--classes": classes,
        "--task": task,
        "--range": _pair(range),
        "--input-range": input_range and _pair(input_range),
        "--layout": layout,
        "--version": version,
    }
    tell = progress or (lambda line: None)
    with _needing_the_extra():
        network = plain(module)
        require_exportable(network)
        tell("running the module on fixed inputs")
        with _unchanged_random_state():
            samples = find_samples(network, latent_size, classes, input_range or range)
            return _written(network, samples, options, labels, tell)


def _written(
    network: "nn.Module",
    samples: Samples,
    options: Mapping[str, object],
    labels: Sequence[str] | None,
    tell: Callable[[str], None],
) -> Exported:
    """Traces, and has the command write what it makes of the graph."""
    with tempfile.TemporaryDirectory(prefix="ganserve-module-") as folder:
        graph = Path(folder, f"{_file_name(network)}.onnx")
        tell("writing the module as ONNX")
        trace(network, samples, graph)
        reference = Path(folder, f"{graph.stem}-in-torch.npz")
        samples.write(reference)
        files = {"--reference": reference}
        if labels is not None:
            files["--labels"] = Path(folder, "labels.txt")
            files["--labels"].write_text("".join(f"{label}\n" for label in labels), encoding="utf-8")
        given = [f"{option}={value}" for option, value in (*options.items(), *files.items()) if value is not None]
        return _adopted(graph, given, tell)


@contextmanager
def _unchanged_random_state() -> Iterator[None]:
    """A training script goes on as it would have."""
    import torch

    with torch.random.fork_rng(devices=[]):
        yield


@contextmanager
def _needing_the_extra() -> Iterator[None]:
    try:
        yield
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] not in NEEDED:
            raise
        raise ExportError(f"this needs: pip install 'ganserve[export]'  (no module named {error.name})") from None


def _require_target(repository: Path, name: str) -> None:
    """What the command would refuse too, after the module was traced."""
    if not name or name != Path(name).name or name.startswith("."):
        raise ExportError(f"name={name!r}: must be a plain folder name that does not begin with a dot")
    if repository.exists() and not repository.is_dir():
        raise ExportError(f"repository={str(repository)!r}: is a file, must be a folder")


def _require_arguments(
    latent_size: int | tuple[int, ...] | None,
    classes: int | None,
    labels: Sequence[str] | None,
    task: str | None,
    range_: tuple[float, float],
    input_range: tuple[float, float] | None,
) -> None:
    sizes = () if latent_size is None else (latent_size,) if isinstance(latent_size, int) else tuple(latent_size)
    if any(not isinstance(size, int) or size < 1 for size in sizes) or (latent_size is not None and not sizes):
        raise ExportError(f"latent_size={latent_size}: must be a number of values, or the shape of one latent")
    if classes is not None and latent_size is None:
        raise ExportError(f"classes={classes}: needs latent_size, the values of the latent")
    if labels is not None and len(labels) != (classes or 0):
        raise ExportError(f"labels: {len(labels)} names for classes={classes}")
    if latent_size is not None and input_range is not None:
        raise ExportError("input_range: the module takes a latent and no image")
    if latent_size is None and task not in (None, "super-resolution", "image-to-image"):
        raise ExportError(f"task={task!r}: needs latent_size; without it a module takes an image")
    for option, pair in (("range", range_), ("input_range", input_range)):
        if pair is not None and (len(pair) != 2 or not pair[0] < pair[1]):
            raise ExportError(f"{option}={pair}: must be (LOW, HIGH), the values of black and white")


def _adopted(graph: Path, options: list[str], tell: Callable[[str], None]) -> Exported:
    """What the command makes of the graph."""
    home = str(Path(__file__).resolve().parents[2])
    command = [sys.executable, "-P", "-c", COMMAND, home, "export", str(graph), *options, "--json"]
    with tempfile.TemporaryFile("w+", encoding="utf-8") as answer:
        last = ""
        with subprocess.Popen(command, stdout=answer, stderr=subprocess.PIPE, text=True, encoding="utf-8") as child:
            assert child.stderr is not None
            try:
                for line in child.stderr:
                    if last := line.strip() or last:
                        tell(last)
            except BaseException:  # of `progress`, or Ctrl-C
                child.kill()
                raise
        answer.seek(0)
        if child.returncode:
            raise ExportError(_in_python(last.removeprefix("ganserve: ")))
        found = json.load(answer)
    return Exported(Path(found["folder"]), found["spec"], tuple(found["notes"]))


def _in_python(sentence: str) -> str:
    """The command's sentence with its options as arguments: `--range LOW,HIGH` is `range=LOW,HIGH`."""
    return re.sub(r"--([a-z]+)(?:-([a-z]+))? ?", lambda found: "_".join(filter(None, found.groups())) + "=", sentence)


def _file_name(module: object) -> str:
    return re.sub(r"\W+", "_", type(module).__name__)[:60]


def _pair(bounds: tuple[float, float]) -> str:
    return f"{float(bounds[0])!r},{float(bounds[1])!r}"
