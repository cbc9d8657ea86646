"""`python -m elastic_inference` is the `ei` command."""

import sys

from elastic_inference.cli import main

sys.exit(main())
