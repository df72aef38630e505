"""Which models of the zoo the demo exports."""

import dataclasses
import json
from pathlib import Path

import pytest

from demo import exports
from demo.__main__ import main
from models.zoo.entries import ENTRIES


@pytest.fixture
def commands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, ...]]:
    """The commands that were run; an export leaves a version in an empty repository."""
    run: list[tuple[str, ...]] = []

    def run_command(*arguments: str) -> None:
        run.append(arguments)
        if arguments[0] == "export":
            manifest = tmp_path / "repository" / arguments[1] / "1" / "manifest.json"
            manifest.parent.mkdir(parents=True, exist_ok=True)
            manifest.touch()

    monkeypatch.setattr(exports, "ROOT", tmp_path)
    monkeypatch.setattr(exports, "REPOSITORY", tmp_path / "repository")
    monkeypatch.setattr(exports, "STAMPS", tmp_path / "repository" / ".demo.json")
    monkeypatch.setattr(exports, "_run_command", run_command)
    return run


def test_only_models_that_are_new_or_changed_are_exported(commands: list[tuple[str, ...]], tmp_path: Path) -> None:
    faces, digits = ENTRIES["faces"], ENTRIES["digits"]
    exports.export_models([faces])
    exports.export_models([faces, digits])
    exports.export_models([dataclasses.replace(faces, sha256="other weights"), digits])
    (tmp_path / "export").mkdir()
    (tmp_path / "export" / "new.py").write_text("code")
    exports.export_models([digits])
    assert [words[1] for words in commands if words[0] == "export"] == ["faces", "digits", "faces", "digits"]
    assert set(json.loads(exports.STAMPS.read_text())) == {"faces", "digits"}


def test_a_model_that_the_zoo_does_not_have_is_one_line_and_nothing_is_run(
    commands: list[tuple[str, ...]], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["--models", "faces,cats"]) == 2
    assert capsys.readouterr().err.startswith("demo: no zoo entry 'cats'; there are faces, digits")
    assert commands == []
