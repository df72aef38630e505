"""`python -m ganserve` is the `ganserve` command."""

import sys

from ganserve.cli import main

sys.exit(main())
