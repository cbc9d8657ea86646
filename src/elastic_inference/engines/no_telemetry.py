"""Keep engines' libraries from reporting what is done with them: importing this module is enough.

OpenVINO's package imports `openvino_telemetry` where that is installed, which forks a process for each model that is
read and sends its name to a service on the Internet, asked or not. Without it OpenVINO takes a stub of its own.
"""

from __future__ import annotations

import sys

sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]  # what makes its import fail
