"""`python -m elastic_inference.accelerator [ENGINE]`: one accelerator, configured by a JSON line on standard input.

A process that waits long for its configuration imports an engine meanwhile, which takes a few tenths of a second.
"""

import logging
import os
import sys

from elastic_inference.accelerator.process import main
from elastic_inference.engines.registry import engine_named

for name in sys.argv[1:]:
    engine_named(name).import_in_advance()
status = main()
logging.shutdown()
sys.stdout.flush()
# All that lasts is closed by now. Taking the interpreter and an engine apart would cost a tenth of a second of a core,
# which is the next accelerator's where one moves or ends.
os._exit(status)
