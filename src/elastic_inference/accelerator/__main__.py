"""`python -m elastic_inference.accelerator`: one accelerator, configured by a JSON line on standard input."""

import sys

from elastic_inference.accelerator.process import main

sys.exit(main())
