"""`python -m elastic_inference.pool`: one process of a pool service; its configuration is a line on standard input."""

from __future__ import annotations

import sys

from elastic_inference.pool.process import main

if __name__ == "__main__":
    sys.exit(main())
