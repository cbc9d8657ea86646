"""`python -m elastic_inference.testing`: an accelerator process that also knows the testing engine."""

import sys

from elastic_inference.accelerator.process import main
from elastic_inference.testing.engine import register

register()
sys.exit(main())
