"""What a model is called on an accelerator: its content, signature and options, hashed."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any

from elastic_inference.models.package import ModelPackage


def model_name(package: ModelPackage, load_body: Mapping[str, Any]) -> str:
    """One name for each content, signature and options: models are never mixed up, and equal ones are shared."""
    rest = json.dumps({k: v for k, v in load_body.items() if k != "package"}, sort_keys=True)
    return f"m-{package.content_hash[:32]}-{hashlib.sha256(rest.encode()).hexdigest()[:16]}"
