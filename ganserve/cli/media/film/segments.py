"""A film in pieces of 20 seconds, each a file of its own once it is whole: the way to go on after a stop."""

import json
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from itertools import pairwise
from pathlib import Path
from typing import Any

import av

from ganserve.cli.media.write import written_whole
from ganserve.cli.output import CommandError

SEGMENT_S = 20
FACTS = "film.json"
AS_THEY_ARE = {"avoid_negative_ts": "disabled"}  # time stamps, by every muxer


@dataclass
class Segments:
    """The pieces of one output, in a folder beside it.

    Attributes:
        folder: of the pieces.
        facts: what they were made from and how; those of other facts are not taken.
    """

    folder: Path
    facts: dict[str, Any]

    @staticmethod
    def of(target: Path, facts: dict[str, Any]) -> "Segments":
        """Those that an earlier run has left, if it made the same; else none."""
        segments = Segments(target.with_name(f".{target.name}.parts"), facts)
        if segments._read().get("facts") != json.loads(json.dumps(facts)):
            shutil.rmtree(segments.folder, ignore_errors=True)
            segments.folder.mkdir(parents=True)
            segments._write({"facts": facts})
        return segments

    @property
    def done(self) -> int:
        """How many whole ones there are, from the first on."""
        n = 0
        while self.path(n).exists():
            n += 1
        return n

    @property
    def complete(self) -> bool:
        """Whether the last one is there."""
        return bool(self._read().get("complete"))

    def path(self, index: int) -> Path:
        """Of a piece."""
        return self.folder / f"{index:05}.piece"

    def start(self, index: int, origin: Fraction) -> Fraction:
        """Where a piece begins, in seconds, in a film that begins at `origin`."""
        return origin + index * SEGMENT_S

    def index(self, time: Fraction, origin: Fraction) -> int:
        """The piece of a frame."""
        return int((time - origin) // SEGMENT_S)

    def finish(self) -> None:
        """Notes that the last one is there."""
        self._write({**self._read(), "complete": True})

    def note_version(self, version: str) -> None:
        """Notes which version of the model makes the pieces.

        Raises:
            CommandError: another one made those that are there.
        """
        found = self._read()
        before = found.get("version", version)
        if before != version:
            raise CommandError(
                f"version {before} of the model made the first part and the server has {version} now; pass "
                f"--version {before}, or delete {self.folder}"
            )
        self._write({**found, "version": version})

    def note_origin(self, origin: Fraction) -> Fraction:
        """Notes where the film begins, in seconds; what was noted first counts."""
        found = self._read()
        self._write({"origin": str(origin), **found})
        return Fraction(self._read()["origin"])

    @property
    def origin(self) -> Fraction | None:
        """As noted."""
        found = self._read().get("origin")
        return None if found is None else Fraction(found)

    def delete(self) -> None:
        """Removes them."""
        shutil.rmtree(self.folder)

    def packets(self, time_base: Fraction) -> Iterator[Any]:
        """The packets of all pieces in their order, with time stamps that every container takes, in the source's base.

        Pieces were encoded apart, so that the decoding time stamps of two may overlap. Those of the whole are made
        anew: packet k is decoded when frame k - delay is shown.
        """
        shown = [_ticks(packet, time_base) for packet in self._raw_packets()]
        times = sorted(shown)
        places = {time: place for place, time in enumerate(times)}
        delay = max((place - places[time] for place, time in enumerate(shown)), default=0)
        step = min((after - before for before, after in pairwise(times)), default=1)
        decoded = [times[0] - (delay - place) * step for place in range(delay)] + times
        origin = round((self.origin or 0) / time_base)
        for place, packet in enumerate(self._raw_packets()):
            pts = _ticks(packet, time_base)
            packet.time_base = time_base
            packet.pts, packet.dts = pts + origin, decoded[place] + origin
            yield packet

    def stream(self) -> Any:
        """An open container with the video stream, as a pattern for the output's."""
        for index in range(self.done):
            if self.path(index).stat().st_size:
                return av.open(str(self.path(index)))
        raise CommandError("it has no frame that can be read")

    def _raw_packets(self) -> Iterator[Any]:
        for index in range(self.done):
            if self.path(index).stat().st_size:
                with av.open(str(self.path(index))) as container:
                    yield from (packet for packet in container.demux(video=0) if packet.pts is not None)

    def _read(self) -> dict[str, Any]:
        try:
            return dict(json.loads((self.folder / FACTS).read_text()))
        except (FileNotFoundError, ValueError):
            return {}

    def _write(self, found: dict[str, Any]) -> None:
        with written_whole(self.folder / FACTS) as part:
            part.write_text(json.dumps(found))


def _ticks(packet: Any, time_base: Fraction) -> int:
    ticks: int = round(packet.pts * packet.time_base / time_base)
    return ticks
