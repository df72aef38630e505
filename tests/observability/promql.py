"""What a PromQL expression names: metrics, the labels that are matched, and the labels that are grouped by.

promtool parses PromQL but does not print what it found, so this reads tokens: enough for names, not for meaning.
"""

import re
from dataclasses import dataclass, field

_TOKEN = re.compile(
    r"""(?P<space>\s+|\#[^\n]*)
    |(?P<string>"(?:[^"\\]|\\.)*"|'(?:[^'\\]|\\.)*'|`[^`]*`)
    |(?P<window>\[[^\]]*\])
    |(?P<number>0x[0-9a-fA-F]+|(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?(?:ms|[smhdwy])?(?:\d+(?:ms|[smhdwy]))*)
    |(?P<name>[a-zA-Z_:][a-zA-Z0-9_:]*)
    |(?P<sign>=~|!~|!=|==|<=|>=|[-+*/%^<>=(){},@])""",
    re.VERBOSE,
)
_LABELS_FOLLOW = {"by", "without", "on", "ignoring", "group_left", "group_right"}
_OPERATORS = {"and", "or", "unless", "bool", "offset", "atan2"}
_MATCHES = {"=", "!=", "=~", "!~"}


@dataclass
class Names:
    """`selected`: metric -> the labels in its braces, over all its selectors; `grouped`: those of by, on and so on;
    `matched`: (metric, label) -> the texts that it is compared with."""

    selected: dict[str, set[str]] = field(default_factory=dict)
    grouped: set[str] = field(default_factory=set)
    matched: dict[tuple[str, str], list[str]] = field(default_factory=dict)


def names(expression: str) -> Names:
    """What the expression names.

    Raises:
        ValueError: it has something that is no PromQL, or nothing that is a metric.
    """
    tokens = _tokens(expression)
    found = Names()
    at = 0
    while at < len(tokens):
        kind, text = tokens[at]
        following = tokens[at + 1][1] if at + 1 < len(tokens) else ""
        if text == "{":
            raise ValueError(f"a selector without a metric's name: {expression}")
        if kind != "name" or text in _OPERATORS:
            at += 1
        elif text in _LABELS_FOLLOW:
            at = _read_labels(tokens, at + 1, found.grouped)
        elif following == "(" or following in _LABELS_FOLLOW:
            at += 1  # a function, or an aggregation
        else:
            at = _read_selector(tokens, at, found)
    if not found.selected:
        raise ValueError(f"no metric: {expression}")
    return found


def _tokens(expression: str) -> list[tuple[str, str]]:
    tokens: list[tuple[str, str]] = []
    at = 0
    while at < len(expression):
        match = _TOKEN.match(expression, at)
        if match is None or match.lastgroup is None:
            raise ValueError(f"no PromQL from {expression[at : at + 20]!r} on: {expression}")
        if match.lastgroup != "space":
            tokens.append((match.lastgroup, match[0]))
        at = match.end()
    return tokens


def _read_labels(tokens: list[tuple[str, str]], at: int, into: set[str]) -> int:
    if at >= len(tokens) or tokens[at][1] != "(":  # group_left alone
        return at
    end = at + [text for _, text in tokens[at:]].index(")")
    into |= {text for kind, text in tokens[at:end] if kind == "name"}
    return end + 1


def _read_selector(tokens: list[tuple[str, str]], at: int, found: Names) -> int:
    metric = tokens[at][1]
    labels = found.selected.setdefault(metric, set())
    if at + 1 >= len(tokens) or tokens[at + 1][1] != "{":
        return at + 1
    end = at + [text for _, text in tokens[at:]].index("}")
    for (kind, label), (_, sign), (_, text) in zip(
        tokens[at + 2 :], tokens[at + 3 :], tokens[at + 4 : end], strict=False
    ):
        if kind == "name" and sign in _MATCHES:
            labels.add(label)
            found.matched.setdefault((metric, label), []).append(text[1:-1])
    return end + 1
