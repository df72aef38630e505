"""Writes the version of an adopted graph, with what is wanted beside it."""

import tempfile
from dataclasses import dataclass, replace
from pathlib import Path

import onnx

from artifact.repository import CENTERS, MAPPING, ONNX, ONNX_FLOAT, ArtifactError, write_version
from artifact.spec import Parity, Spec
from export.adopt.mapping import MappingGraph, served_mapping
from export.adopt.roles import Range
from export.critic.find import FoundCritic
from export.critic.write import add_critic
from export.directions.centers import write_centers
from export.directions.make import Wanted, make_directions
from export.directions.space import Space
from export.errors import ExportError
from export.golden import add_golden
from export.graph.parity import open_session
from export.graph.trace import save
from export.pipeline import Progress, Request


@dataclass(frozen=True)
class Beside:
    """What is written beside the graph: directions, centres of truncation, a critic, the graph for images of 16 bits,
    the mapping graph. `output_range`: of the graph's own images, as the critic sees them.
    """

    directions: Wanted
    centers: int
    critic: FoundCritic | None
    output_range: Range
    floats: tuple[onnx.ModelProto, Parity] | None
    mapping: MappingGraph | None


def write(
    request: Request, version: int, spec: Spec, served: onnx.ModelProto, config: str, beside: Beside, progress: Progress
) -> tuple[Path, tuple[str, ...]]:
    """The version's folder, and what the user should know.

    Raises:
        ExportError: it cannot be written, or something beside the graph is not as it should be.
    """
    with tempfile.TemporaryDirectory(prefix="ganserve-export-") as name:
        folder, files, notes = Path(name), {ONNX: Path(name) / ONNX}, tuple[str, ...]()
        try:
            save(served, files[ONNX])
            session, mapping = open_session(files[ONNX]), None
            if beside.mapping is not None:
                files[MAPPING] = folder / MAPPING
                save(served_mapping(beside.mapping), files[MAPPING])
                mapping = open_session(files[MAPPING])
            target, judge = (request.repository / request.name, version), (request.judge, Path(request.checkpoint))
            spec, judged, said = add_golden(spec, session, target, judge, folder, progress)
            files |= judged
            space = Space(spec, session, mapping)
            if beside.directions:
                found, notes = make_directions(beside.directions, space, None, folder, progress)
                files |= found
            if beside.centers:
                files[CENTERS] = folder / CENTERS
                write_centers(space, beside.centers, files[CENTERS], progress)
            if beside.floats is not None:
                files[ONNX_FLOAT] = folder / ONNX_FLOAT
                save(beside.floats[0], files[ONNX_FLOAT])
                spec = replace(spec, float_parity=beside.floats[1])
            if beside.critic is not None:
                spec, more, _ = add_critic(beside.critic, spec, session, beside.output_range, folder, progress)
                files |= more
            return write_version(request.repository, request.name, version, spec, files, config), (*notes, *said)
        except (ArtifactError, OSError, ValueError) as error:
            raise ExportError(str(error).splitlines()[0]) from None
