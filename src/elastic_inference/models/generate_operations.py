"""Write operations.txt, what TensorFlow's registry says of every operation, from the installed TensorFlow.

Run `python -m elastic_inference.models.generate_operations`; the file is committed, so that nothing else needs
TensorFlow to know the dtype of a tensor or whether an operation has state.

One operation a line: its name, with `!` before it when it is stateful, then one word for each output: `&` marks a
reference, `N*` a repetition by an attribute, `@Tout` a list of dtypes in an attribute, a lower case word a fixed
dtype, another word the attribute that holds the dtype, with `=dtype` where the attribute has a default
(SavedModels may leave defaults out).
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

OPERATIONS_PATH = Path(__file__).with_name("operations.txt")


def operations_text() -> str:
    """Return the content that `operations.txt` should have for the installed TensorFlow."""
    from tensorflow.core.framework import op_def_pb2
    from tensorflow.python.client import pywrap_tf_session

    ops = op_def_pb2.OpList.FromString(pywrap_tf_session.TF_GetBuffer(pywrap_tf_session.TF_GetAllOpList()))
    return "".join(f"{_line(op)}\n" for op in sorted(ops.op, key=lambda op: op.name) if op.name[0] != "_")


def _line(op: Any) -> str:
    from tensorflow import dtypes

    defaults = {
        attr.name: f"={dtypes.as_dtype(attr.default_value.type).name}"
        for attr in op.attr
        if attr.type == "type" and attr.HasField("default_value")
    }
    words = [("!" if op.is_stateful else "") + op.name]
    for arg in op.output_arg:
        if arg.type_list_attr:
            word = f"@{arg.type_list_attr}"
        elif arg.type_attr:
            word = arg.type_attr + defaults.get(arg.type_attr, "")
        else:
            word = dtypes.as_dtype(arg.type).name
        repetition = f"{arg.number_attr}*" if arg.number_attr else ""
        words.append(("&" if arg.is_ref else "") + repetition + word)
    return " ".join(words)


if __name__ == "__main__":
    OPERATIONS_PATH.write_text(operations_text())
