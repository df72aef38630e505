"""The `ganserve` command, also as `python -m ganserve`.

The command's packages have generic names. In a checkout they lie next to `ganserve`, in an installed wheel below
`ganserve/application`. That folder is put first on `sys.path`: neither a user's own `models/` nor another
distribution's `server` is imported in their place.
"""

import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
PACKAGES = ("artifact", "export", "models", "server")


def main() -> int:
    """Runs the command line and returns the exit code."""
    application = HERE / "application"
    _import_first_from(application if application.is_dir() else HERE.parent)
    from ganserve.cli.main import main

    return main()


def _import_first_from(folder: Path) -> None:
    """Makes PACKAGES mean those in `folder`, also if others of these names are imported already (sitecustomize)."""
    for name, module in list(sys.modules.items()):
        package = name.partition(".")[0]
        if package in PACKAGES and not _lies_in(folder / package, getattr(module, "__file__", None)):
            del sys.modules[name]
    sys.path.insert(0, str(folder))


def _lies_in(folder: Path, file: str | None) -> bool:
    return file is not None and Path(file).resolve().is_relative_to(folder)


if __name__ == "__main__":
    sys.exit(main())
