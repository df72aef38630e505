"""Why a model is not served, or not as requested, in words that clients may see."""

import re
from pathlib import Path

MAX_REASON = 1000
# An absolute path of two names or more; not what follows the colon of a URL, or a name in a relative path.
_PATH = re.compile(r"(?<![\w.:/>~-])/(?:[^/\s'\",;:()<>]+/)+([^/\s'\",;:()<>]*)")


class Reasons:
    """Makes reasons of errors: one line without paths of the host, since clients read it. The log has the whole."""

    def __init__(self, root: Path) -> None:
        """`root`: of the repository, absolute. Its files are named relative to it."""
        self._roots = [f"{path}/" for path in (root, root.resolve()) if path != Path("/")]

    def of(self, text: object) -> str:
        """The reason: printable, and of at most MAX_REASON characters."""
        line = " ".join(str(text).split())
        for root in self._roots:
            line = line.replace(root, "")
        line = _PATH.sub(r"\1", line)
        line = "".join(each if each.isprintable() else "\N{REPLACEMENT CHARACTER}" for each in line)
        return line if len(line) <= MAX_REASON else f"{line[: MAX_REASON - 1]}\N{HORIZONTAL ELLIPSIS}"
