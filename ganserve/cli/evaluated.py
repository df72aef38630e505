"""What `ganserve evaluate` looks at: a running model's images, or those of a folder, and through which network."""

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from ganserve.cli.change_options import described_options
from ganserve.cli.connect import served_model
from ganserve.cli.dataset_options import read_contents
from ganserve.cli.output import CommandError, Steps, needing
from ganserve.client.results import ServedModel
from ganserve.datasets.contents import Contents
from ganserve.datasets.description import Description
from ganserve.datasets.folder import MANIFEST
from ganserve.datasets.requests import Source
from ganserve.evaluation.classes import Named
from ganserve.evaluation.features import Extractor, Graph, open_extractor, open_judge
from ganserve.evaluation.images import find, read

JUDGE = "judge"
# Of the zoo, by the names that --features knows.
ZOO_JUDGES = ("digits-judge", "emoji-judge")

T = TypeVar("T")


@dataclass(frozen=True)
class Made:
    """Generated images, which are made while they are read, and the network that looks at them.

    `channels`: of the images; 0: whatever the network takes. `names`: of each for people. `facts`: for the report.
    `labels`: what each was to show, if the network names the same classes.
    """

    images: Iterable[NDArray[np.uint8]]
    count: int
    channels: int
    names: Sequence[str]
    text: str
    facts: dict[str, Any]
    extractor: Extractor
    labels: Sequence[int] | None = None

    def named(self, real: int) -> Named | None:
        """What the network says that they show, once it has seen them and then so many real ones; None if it names no
        classes."""
        if not isinstance(self.extractor, Graph) or not self.extractor.classes:
            return None
        said = self.extractor.named
        return Named(self.extractor.classes, said[self.count : self.count + real], said[: self.count], self.labels)


def of_model(source: Source, model: str, features: str | None, count: int, first_seed: int, pixels: str | None) -> Made:
    """Images of a running generator, over all of its classes. `source`: with the version and options of all images.

    Raises:
        CommandError: no such generator, or no network for it.
        EvaluationError: the network is no such.
    """
    client, options = source.client, source.options
    served = served_model(client, model, options.get("version") or "")
    if not served.task or served.task.startswith(("super", "image", "encoder")):
        raise CommandError(f"{model}: is for {served.task or 'plain tensors'}; generators are evaluated")
    extractor = _of_model(source, served, features, pixels)
    contents = read_contents(served.labels, count, None, None, first_seed)
    then = list(options.get("then") or ())
    parameters = {**described_options(options), **({"then": then} if then else {})}
    about = Description(
        served.name, served.version, served.sha256, (served.width, served.height, served.channels), served.labels,
        contents, 1, "imagefolder", parameters=parameters,
    )  # fmt: skip
    pinned = replace(source, options={**options, "version": served.version})
    images = (image.array for image in pinned.images(about, range(contents.total)))
    facts = {
        "model": served.name, "version": served.version, "sha256": served.sha256, "truncation": options["truncation"],
        "parameters": parameters, "first_seed": first_seed,
    }  # fmt: skip
    names = [f"seed {first_seed + index}" for index in range(count)]
    text = f"{count} images of {served.name} version {served.version}"
    return Made(images, count, served.channels, names, text, facts, extractor, _labels(served, contents, extractor))


def of_folder(folder: Path, features: str | None, count: int, pixels: str | None) -> Made:
    """The images of a folder, such as `ganserve dataset` writes.

    Raises:
        CommandError: nothing says which network.
        EvaluationError: no such folder, too few images, or no such network.
    """
    files = find(folder, count, "--images")
    if features in (None, JUDGE):
        raise CommandError(
            f"--images {folder}: no model says which judge; give --features FILE, or {' or '.join(ZOO_JUDGES)}"
        )
    extractor = _named(features or "", pixels)
    images = (read(path, extractor.channels) for path in files)
    names = [path.relative_to(folder).as_posix() for path in files]
    facts = {"generated": str(folder), **_made_by(folder)}
    return Made(images, len(files), 0, names, f"{len(files)} images of {folder}", facts, extractor)


def told(images: Iterable[T], total: int, text: str, say: Steps) -> Iterator[T]:
    """The same, with a line that says how far it is."""
    say(text)
    for done, each in enumerate(images):
        yield each
        say(text, (done + 1) / total)


def _of_model(source: Source, served: ServedModel, features: str | None, pixels: str | None) -> Extractor:
    if features not in (None, JUDGE):
        return _named(features or "", pixels)
    if pixels is not None:
        raise CommandError("--pixels: a judge takes pixels as they are; leave it out")
    if served.judge is not None:
        judge = source.client.judge(served.name, version=served.version)
        with needing("evaluate"):
            return open_judge(judge.graph, Path(judge.source).stem, judge.classes)
    from models.zoo.fetch import ZooError
    from models.zoo.judges import judge_of

    try:
        path = judge_of(served.source)
    except ZooError as error:
        raise CommandError(
            f"{served.name}: has no judge beside it ({error}); export it with --judge FILE, or give --features FILE"
        ) from None
    with needing("evaluate"):
        return open_extractor(path, path.stem, None)


def _named(features: str, pixels: str | None) -> Extractor:
    """By the file's name, or that of a judge of the zoo.

    Raises:
        CommandError: the zoo's files are not installed.
    """
    path = Path(features)
    name = path.name
    if features in ZOO_JUDGES and not path.exists():
        from models.zoo.fetch import ZooError
        from models.zoo.judges import judge_of

        try:
            path, name = judge_of(f"zoo {features}:"), features
        except ZooError as error:
            raise CommandError(f"--features {features}: {error}") from None
    with needing("evaluate"):
        return open_extractor(path, name, pixels)


def _labels(served: ServedModel, contents: Contents, extractor: Extractor) -> list[int] | None:
    """What each image was to show, by the network's classes; None if those have other names than the model's."""
    classes = extractor.classes if isinstance(extractor, Graph) else ()
    if contents.labels is None or not set(served.labels) <= set(classes):
        return None
    return [classes.index(served.labels[int(label)]) for label in contents.labels]


def _made_by(folder: Path) -> dict[str, Any]:
    """Of a folder that `ganserve dataset` wrote: the model."""
    try:
        found = json.loads((folder / MANIFEST).read_text())
        return {key: found[key] for key in ("model", "version", "sha256")}
    except (OSError, ValueError, KeyError, TypeError):
        return {}
