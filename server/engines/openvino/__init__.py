"""Graphs in OpenVINO on the CPU.

OpenVINO's package imports its model converter, which writes an id into the user's home folder and sends usage data to
Google Analytics. Nothing here needs it, and importing the rest takes a third of the time without it.
"""

import sys
from typing import Any, cast

# Read by `import openvino`, which this package's modules do: it goes on without a converter that cannot be imported.
cast(dict[str, Any], sys.modules).setdefault("openvino.tools.ovc", None)
