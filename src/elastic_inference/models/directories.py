"""Directories that are no SavedModel: the model within them where that is plain, else what they are."""

from __future__ import annotations

from pathlib import Path

_HINTS = (
    (("model.safetensors", "pytorch_model.bin", "model.safetensors.index.json"),
     "a Hugging Face model of PyTorch weights: export it with `optimum-cli export onnx --model DIRECTORY OUT`"),
    (("tf_model.h5",),
     "a Hugging Face model of TensorFlow weights: load it there and call model.save_pretrained(OUT, saved_model=True)"),
    (("flax_model.msgpack",),
     "a Hugging Face model of Flax weights: export it with jax2tf and tf.saved_model.save"),
    (("manifest.ocdbt", "_METADATA", "_CHECKPOINT_METADATA"),
     "a checkpoint of orbax: restore it, and export the function with jax2tf and tf.saved_model.save"),
    (("checkpoint",),
     "a TensorFlow checkpoint, which holds variables alone: load it in its program and write a SavedModel with "
     "tf.saved_model.save, or with tf.compat.v1.saved_model.Builder for TensorFlow 1"),
    (("saved_model.pbtxt",), "a SavedModel in text form: load it and write it again with tf.saved_model.save"),
    (("model.json",), "a model of TensorFlow.js: convert it with tensorflowjs_converter to a SavedModel"),
)  # fmt: skip


def model_within(path: Path) -> Path | None:
    """Find the model that a directory plainly means: TensorFlow Serving's newest version, or its one .onnx."""
    versions = [p for p in path.iterdir() if p.name.isdigit() and (p / "saved_model.pb").is_file()]
    if versions:
        return max(versions, key=lambda version: int(version.name))
    models = sorted(path.glob("*.onnx"))
    return models[0] if len(models) == 1 else None


def explanation(path: Path) -> str:
    """Say what a directory is instead, and what to do; "" where nothing is known."""
    if not path.is_dir():
        return ""
    models = sorted(p.name for p in path.glob("*.onnx"))
    if models:
        return f". It holds several ONNX models, so name one: {', '.join(models[:8])}"
    names = {p.name for p in path.iterdir()}
    if any(name.endswith((".ckpt.meta", ".ckpt.index", ".index")) for name in names):
        names.add("checkpoint")
    for files, what in _HINTS:
        if names.intersection(files):
            return f". It is {what}"
    return ""
