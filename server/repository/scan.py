"""The repository's folder as it is: which of its entries are models, and which versions a model has."""

import errno
import stat
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from artifact.repository import CONFIG
from server.errors import ModelNotFound, NotServing

# Folders that systems put on every volume, which often only root can read.
SYSTEM_FOLDERS = frozenset({"lost+found", "@eaDir", "#recycle", "$RECYCLE.BIN", "System Volume Information"})
LAYOUT = "a model is a folder <model>/<version>/model.onnx, its version a number"


@dataclass(frozen=True)
class Scan:
    """The entries of a repository, except files and hidden ones.

    `broken`: by a name that can be shown, why the entry cannot be looked at. `others`: folders that are no model.
    """

    models: Sequence[str]
    broken: Mapping[str, str]
    others: Sequence[str]


def scan(root: Path) -> Scan:
    """Looks at every entry; one that cannot be read does not keep the others.

    Raises:
        OSError: `root` itself cannot be read.
    """
    models: list[str] = []
    others: list[str] = []
    broken: dict[str, str] = {}
    for name in names_in(root):
        if name.startswith("."):
            continue
        try:
            if not stat.S_ISDIR((root / name).stat().st_mode):
                continue
            if not _is_model(root / name):
                others.append(shown(name))
            elif name.isprintable():
                models.append(name)
            else:
                broken[shown(name)] = "the folder's name has characters that are not UTF-8 or not printable; rename it"
        except OSError as error:
            if name in SYSTEM_FOLDERS:
                others.append(name)
            else:
                broken[shown(name)] = _unreadable(root / name, error)
    return Scan(models, {name: reason for name, reason in broken.items() if name not in models}, others)


def names_in(folder: Path) -> list[str]:
    """What is in a folder, by name.

    Raises:
        OSError: it cannot be read.
    """
    return sorted(path.name for path in folder.iterdir())


def find(root: Path, name: str) -> Path:
    """The folder of a model that a client names.

    Raises:
        ModelNotFound: no such folder, or it is no model's.
        NotServing: it cannot be read.
    """
    folder = root / name
    valid = name and name.isprintable() and "/" not in name and not name.startswith(".")
    try:
        if valid and stat.S_ISDIR(folder.stat().st_mode) and _is_model(folder):
            return folder
    except OSError as error:
        if error.errno not in (errno.ENOENT, errno.ENAMETOOLONG):
            raise NotServing(_unreadable(folder, error)) from None
    raise ModelNotFound(f"failed to load {name!r}, failed to poll from model repository: it has no such model")


def versions(folder: Path) -> list[int]:
    """The versions of a model, in no order.

    Raises:
        NotServing: the folder cannot be read.
    """
    try:
        return [int(name) for name in names_in(folder) if _is_version(folder / name)]
    except OSError as error:
        raise NotServing(_unreadable(folder, error)) from None


def why_empty(root: Path) -> str:
    """That a repository holds no models, and where they may be: too deep, too high, or files without folders.

    Raises:
        OSError: `root` cannot be read.
    """
    names = names_in(root)
    hint = ""
    if _is_model(root):
        hint = f"it is itself a model's folder: serve its parent, or put it into a folder; {LAYOUT}"
    elif files := [name for name in names if name.endswith((".onnx", ".plan"))]:
        hint = f"it has the file {shown(files[0])}; {LAYOUT}"
    else:
        above = [name for name in names if _holds_models(root / name)]
        hint = f"its folder {shown(above[0])} holds models; is that the repository?" if above else LAYOUT
    return f"the repository holds no models: {hint}"


def shown(name: str) -> str:
    """A file's name with a replacement character for what cannot be encoded or printed."""
    return "".join(character if character.isprintable() else "\N{REPLACEMENT CHARACTER}" for character in name)


def _is_model(folder: Path) -> bool:
    names = names_in(folder)
    return CONFIG in names or any(_is_version(folder / name) for name in names)


def _is_version(path: Path) -> bool:
    """Whether that is a version's folder, or should be: one that cannot be looked at has a reason when it is loaded."""
    name = path.name
    if not (name.isascii() and name.isdecimal()) or name[0] == "0" or int(name) >= 1 << 63:
        return False
    try:
        return stat.S_ISDIR(path.stat().st_mode)
    except OSError:
        return True


def _holds_models(folder: Path) -> bool:
    try:
        return not folder.name.startswith(".") and any(_is_model(each) for each in folder.iterdir() if each.is_dir())
    except OSError:
        return False


def _unreadable(path: Path, error: OSError) -> str:
    if isinstance(error, FileNotFoundError) and path.is_symlink():
        return "a link to a folder that does not exist"
    return f"the folder cannot be read: {error.strerror or error}"
