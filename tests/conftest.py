"""What all tests need, wherever they are run from."""

from __future__ import annotations

import signal

# What a shell starts in the background may be told to ignore Ctrl-C and hands that on; tests send it to their programs.
signal.signal(signal.SIGINT, signal.default_int_handler)
