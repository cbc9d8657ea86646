"""Which attached accelerators a program may use: EI_VISIBLE_DEVICES, with ordinals or ids, as in Amazon's clients."""

from __future__ import annotations

import os
from collections.abc import Sequence

from elastic_inference.errors import AcceleratorNotFound

VISIBLE_VARIABLE = "EI_VISIBLE_DEVICES"


def visible_accelerators(attached: Sequence[str]) -> tuple[str, ...]:
    """Those of the attached accelerators' ids that the program may use, in the order in which it counts them.

    Unset means all, empty means none; else ids or ordinals in `attached`, separated by commas.

    Raises:
        AcceleratorNotFound: An entry names no attached accelerator.
    """
    text = os.environ.get(VISIBLE_VARIABLE)
    if text is None:
        return tuple(attached)
    entries = [entry.strip() for entry in text.split(",") if entry.strip()]
    return tuple(_entry(entry, attached, f"{VISIBLE_VARIABLE}={text}") for entry in entries)


def choose(accelerator_id: str | int | None, attached: Sequence[str]) -> str:
    """The accelerator of an id or of an ordinal among the visible ones; None means the first.

    Raises:
        AcceleratorNotFound: It is not attached, or not visible.
    """
    visible = visible_accelerators(attached)
    if not visible:
        why = "is empty" if os.environ.get(VISIBLE_VARIABLE) is not None else "is unset, and none is attached"
        raise AcceleratorNotFound(f"no accelerator is visible: {VISIBLE_VARIABLE} {why}")
    wanted = 0 if accelerator_id is None else accelerator_id
    return _entry(str(wanted), visible, f"accelerator_id={wanted}")


def _entry(entry: str, known: Sequence[str], source: str) -> str:
    if entry.isdigit() and int(entry) < len(known):
        return known[int(entry)]
    if entry in known:
        return entry
    raise AcceleratorNotFound(
        f"{source}: {entry!r} is none of the {len(known)}: {', '.join(known) or 'none'}"
    )
