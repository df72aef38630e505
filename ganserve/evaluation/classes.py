"""What a judge says that images show: their shares of classes beside the data's, and whether labels were obeyed."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

# Of the data's share of a class: with less of it among the generated images, they lack it.
LACKING = 0.1
# A class with fewer of the data's images is not missed.
LEAST_DATA = 10


@dataclass(frozen=True)
class Named:
    """The class of each image, by index of `classes`. `labels`: likewise, what was asked for; None: nothing was."""

    classes: Sequence[str]
    real: Sequence[int]
    made: Sequence[int]
    labels: Sequence[int] | None = None


def compare(named: Named) -> dict[str, Any]:
    """Shares of each class, how far they are apart (total variation), and the share of labels that were obeyed."""
    real, made = ([_share(found, index) for index in range(len(named.classes))] for found in (named.real, named.made))
    found: dict[str, Any] = {
        "shares": dict(zip(named.classes, made, strict=True)),
        "shares_of_data": dict(zip(named.classes, real, strict=True)),
        "apart": sum(abs(one - other) for one, other in zip(real, made, strict=True)) / 2,
        "missing": [
            name for name, of_data, share in zip(named.classes, real, made, strict=True)
            if of_data * len(named.real) >= LEAST_DATA and share < LACKING * of_data
        ],
    }  # fmt: skip
    if named.labels is not None:
        pairs = list(zip(named.labels, named.made, strict=True))
        found["obeyed"] = sum(label == shown for label, shown in pairs) / len(pairs)
        wrong = Counter((label, shown) for label, shown in pairs if label != shown)
        found["confused"] = [
            {"label": named.classes[label], "shows": named.classes[shown], "images": count}
            for (label, shown), count in wrong.most_common(3)
        ]  # fmt: skip
    return found


def in_words(found: Mapping[str, Any]) -> list[str]:
    """A line for the shares, one for the labels."""
    pairs = [(name, share, found["shares_of_data"][name]) for name, share in found["shares"].items()]
    far = sorted(pairs, key=lambda each: -abs(each[1] - each[2]))[:3]
    said = ", ".join(f"{name} {share:.1%} (of the data {of_data:.1%})" for name, share, of_data in far)
    lines = [f"classes, as the judge says: {found['apart']:.1%} apart; {said}"]
    if "obeyed" in found:
        wrong = ", ".join(f"{each['label']} shows {each['shows']} ({each['images']})" for each in found["confused"])
        lines.append(f"labels obeyed: {found['obeyed']:.2%}" + (f"; {wrong}" if wrong else ""))
    return lines


def _share(named: Sequence[int], index: int) -> float:
    return sum(each == index for each in named) / len(named)
