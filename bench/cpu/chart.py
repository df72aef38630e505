"""`python -m bench chart FILE`: what `tables` measured, as a picture: served over the engine limit, by callers."""

import argparse
import json
from pathlib import Path
from typing import Any

from bench.caller.payloads import RepositoryError
from bench.percentiles import spread

INK, PAPER = "#1f2933", "white"
COLOURS = ("#9aa5b1", "#2f6f9f", "#c26a3d")


def shares(figures: dict[str, Any]) -> dict[str, dict[int, float]]:
    """Of one table: by server and number of callers, the median of images/s over the limit; empty for other tables."""
    if "limit" not in figures:
        return {}
    most = figures["limit"]["images_per_s"]
    found: dict[str, dict[int, float]] = {}
    for name, phases in figures.items():
        server, _, callers = name.removesuffix(" callers").rpartition(", ")
        if server:
            found.setdefault(server, {})[int(callers)] = spread(phases["per_s"]).median / most
    return found


def draw(results: dict[str, Any], path: Path) -> None:
    """Writes the picture, SVG or PNG by its name.

    Raises:
        RepositoryError: there is no table with a limit in the results; those of other commands have none.
    """
    import matplotlib

    matplotlib.use("agg")
    from matplotlib import pyplot

    panels = [(title, found) for title, figures in results.get("tables", {}).items() if (found := shares(figures))]
    if not panels:
        raise RepositoryError("no table with an engine limit in it")
    widths = [max(3, sum(map(len, found.values()))) for _, found in panels]  # room for the title
    matplotlib.rcParams.update({"svg.hashsalt": "ganserve", "font.size": 9, "text.color": INK})
    figure, axes = pyplot.subplots(
        1, len(panels), figsize=(10, 3.4), width_ratios=widths, squeeze=False, sharey=True, layout="constrained"
    )
    for axis, (title, found) in zip(axes[0], panels, strict=True):
        callers = sorted({each for row in found.values() for each in row})
        width = 0.8 / len(found)
        for number, (server, row) in enumerate(found.items()):
            at = [index + (number - (len(found) - 1) / 2) * width for index in range(len(callers))]
            heights = [row.get(each, 0.0) for each in callers]
            bars = axis.bar(at, heights, width, label=server, color=COLOURS[number % len(COLOURS)])
            axis.bar_label(bars, fmt="%.2f", fontsize=7)
        axis.axhline(1.0, color=INK, linewidth=0.8, linestyle=":")
        axis.set_xticks(range(len(callers)), [str(each) for each in callers])
        axis.set_title(title.replace("`", "").replace(", ", "\n"), fontsize=9, loc="left")
        axis.set_xlabel("callers")
        axis.spines[["top", "right"]].set_visible(False)
    axes[0][0].set_ylabel("images/s over ONNX Runtime's limit")
    axes[0][0].legend(frameon=False)
    machine = results["machine"]
    figure.suptitle(
        f"{machine['cores']} cores, {machine['processor']}, {machine['date']}", fontsize=8, x=0.01, ha="left"
    )
    figure.savefig(path, facecolor=PAPER, metadata={"Date": None} if path.suffix == ".svg" else None)
    pyplot.close(figure)


def run(arguments: argparse.Namespace) -> dict[str, object]:
    """Reads the file and writes the picture."""
    path = arguments.out or arguments.file.with_suffix(".svg")
    try:
        results = json.loads(arguments.file.read_text())
    except ValueError as error:
        raise RepositoryError(f"{arguments.file}: no JSON: {error}") from None
    draw(results, path)
    print(path)
    return {}
