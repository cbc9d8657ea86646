"""What TensorFlow 1.15.5's own predictor answered, recorded with the models that it was asked about.

`data/cases.json` was written by tf.contrib.predictor (Python 3.7, numpy 1.18.5); the models are a few kB each, so that
they lie here and every clone runs them.
"""

from __future__ import annotations

from pathlib import Path

FOLDER = Path(__file__).resolve().parent / "data"
MODELS = FOLDER / "models"
