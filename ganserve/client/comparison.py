"""Before and after on one page: a self-contained HTML file with a slider for each pair, which loads nothing."""

import base64
import html
from dataclasses import dataclass
from pathlib import Path
from string import Template

import numpy as np

from ganserve.client.pictures import Picture, sent
from ganserve.client.png import SIGNATURE, encode_png
from ganserve.client.received import ReceivedImage

PAGE = Template("""<!DOCTYPE html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<title>$title</title>
<style>
body { margin: 1rem; font: 16px sans-serif; background: #222; color: #eee }
figure { margin: 0 0 2rem }
.pair { position: relative; width: min(100%, calc(var(--w) * 1px)); aspect-ratio: var(--w) / var(--h); --at: 50% }
.pair img { position: absolute; inset: 0; width: 100%; height: 100% }
.pair .before { clip-path: inset(0 calc(100% - var(--at)) 0 0) }
.pair .line { position: absolute; inset: 0 auto 0 var(--at); width: 2px; margin-left: -1px; background: #fff }
.pair input { position: absolute; inset: 0; width: 100%; height: 100%; margin: 0; opacity: 0; cursor: ew-resize }
</style></head><body>
$figures
</body></html>
""")
FIGURE = Template("""<figure><div class="pair" style="--w: $width; --h: $height">
<img class="after" alt="after" src="$after"><img class="before" alt="before" src="$before"><div class="line"></div>
<input type="range" min="0" max="100" step="0.1" value="50" aria-label="from after to before"
 oninput="this.parentNode.style.setProperty('--at', this.value + '%')"></div>
<figcaption>$caption</figcaption></figure>""")


@dataclass(frozen=True)
class Pair:
    """An image before and after, as data URLs, and the size after, px."""

    caption: str
    before: str
    after: str
    width: int
    height: int

    @staticmethod
    def of(before: Picture, after: ReceivedImage, caption: str = "") -> "Pair":
        """The pair of a picture and what a call made of it."""
        caption = caption or f"before, and after {after.model} version {after.version}: {after.width} x {after.height}"
        return Pair(caption, _data_url(before), _data_url(after), after.width, after.height)


@dataclass(frozen=True)
class Comparison:
    """Pairs on a page."""

    pairs: tuple[Pair, ...]

    @staticmethod
    def of(before: Picture, after: ReceivedImage) -> "Comparison":
        """A page with one pair."""
        return Comparison((Pair.of(before, after),))

    @property
    def html(self) -> str:
        """The page."""
        return PAGE.substitute(title="Before and after", figures="\n".join(map(_figure, self.pairs)))

    def save(self, path: str | Path) -> None:
        """Writes the page, an .html file."""
        Path(path).write_text(self.html, encoding="utf-8")

    def _repr_html_(self) -> str:
        height = max((min(pair.height, 900) for pair in self.pairs), default=0) + 80
        page = html.escape(self.html)
        return f'<iframe style="width: 100%; height: {height}px; border: 0" srcdoc="{page}"></iframe>'


def _figure(pair: Pair) -> str:
    return FIGURE.substitute(
        caption=html.escape(pair.caption),
        before=pair.before,
        after=pair.after,
        width=pair.width,
        height=pair.height,
    )


def _data_url(picture: Picture) -> str:
    found = sent(picture)
    data = found.data
    if found.raw_width:
        pixels = np.frombuffer(data, np.uint8).reshape(found.raw_height, found.raw_width, -1)
        data = encode_png(pixels)
    kind = "png" if data.startswith(SIGNATURE) else "jpeg" if data.startswith(b"\xff\xd8") else "webp"
    return f"data:image/{kind};base64,{base64.b64encode(data).decode()}"
