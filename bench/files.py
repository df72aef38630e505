"""Files that are whole whenever somebody looks: a run that is killed leaves what it wrote last."""

from pathlib import Path


def write_whole(path: Path, text: str) -> None:
    """Writes the file beside its place and puts it there, in place of an earlier one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(f".{path.name}.part")
    beside.write_text(text)
    beside.replace(path)
