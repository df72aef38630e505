"""The `ganserve` command, also as `python -m ganserve`.

The command's packages (`server`, `export`, `models`, `artifact`) have generic names. In a checkout they lie next to
`ganserve`, in an installed wheel below `ganserve/application`. That folder is put first on `sys.path`: a user's own
`models/` or another distribution's `server` is never imported in their place.
"""

import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent


def main() -> int:
    """Runs the command line and returns the exit code."""
    application = HERE / "application"
    sys.path.insert(0, str(application if application.is_dir() else HERE.parent))
    from ganserve.cli.main import main

    return main()


if __name__ == "__main__":
    sys.exit(main())
