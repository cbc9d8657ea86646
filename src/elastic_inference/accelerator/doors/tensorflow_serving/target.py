"""What a request of TensorFlow Serving's is for: a version of a model, and one of its signatures."""

from __future__ import annotations

from typing import NamedTuple

from elastic_inference.accelerator.inference import Inference
from elastic_inference.errors import InvalidInput
from elastic_inference.models.definitions import PREDICT, Definition
from elastic_inference.models.signature import DEFAULT_SIGNATURE_KEY, Signature


class Target(NamedTuple):
    """Which version of which model a request means, and by which signature.

    Attributes:
        version: "" is the newest.
        key: Of the signature; "" is the one that the model was loaded with.
        signature_name: What the answer calls it.
        signature: Its tensors.
    """

    name: str
    version: str
    key: str
    signature_name: str
    signature: Signature


def target_of(inference: Inference, name: str, version: str, label: str, signature_name: str) -> Target:
    """Find what a request means; a signature that nobody asked for before is loaded now.

    Args:
        version: A number as text; 0, and "", are the newest.
        label: In place of a version; "" for none.

    Raises:
        InvalidInput: There is no such label or signature.
        ElasticInferenceError: The model is not served, or the signature cannot be loaded.
    """
    if not name:
        raise InvalidInput("Missing ModelSpec: the request names no model")
    version = version_of(inference, name, version, label)
    own = inference.signature_key(name, version)
    key = "" if signature_name in ("", own) else signature_name
    signature = inference.signature(name, version, key)
    return Target(name, version, key, signature_name or own or DEFAULT_SIGNATURE_KEY, signature)


def version_of(inference: Inference, name: str, version: str, label: str) -> str:
    """Return the version that a request means, "" for the newest; InvalidInput where no version has its label."""
    if label:
        return inference.shared.models.versions.labelled(name, label)
    return "" if version == "0" else version  # as OpenVINO Model Server has it too


def described(inference: Inference, name: str, version: str) -> dict[str, Definition]:
    """Return all signatures of a model by key; of a format without keys its one under the usual one."""
    found = dict(inference.definitions(name, version))
    if not found:
        own = inference.signature(name, version)
        key = inference.signature_key(name, version) or DEFAULT_SIGNATURE_KEY
        found[key] = Definition(PREDICT, own.inputs, own.outputs)
    return found
