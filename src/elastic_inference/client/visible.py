"""Which attached accelerators a program may use: EI_VISIBLE_DEVICES, with ordinals or ids, as in Amazon's clients."""

from __future__ import annotations

from collections.abc import Sequence

from elastic_inference.errors import AcceleratorNotFound
from elastic_inference.settings import VISIBLE_DEVICES


def visible_accelerators(attached: Sequence[str]) -> tuple[str, ...]:
    """Those of the attached accelerators' ids that the program may use, in the order in which it counts them.

    Unset means all, empty means none; else ids or ordinals in `attached`, separated by commas.

    Raises:
        AcceleratorNotFound: An entry names no attached accelerator.
    """
    entries = VISIBLE_DEVICES.get()
    if entries is None:
        return tuple(attached)
    source = f"{VISIBLE_DEVICES.name}={','.join(entries)}"
    return tuple(_entry(entry, attached, source) for entry in entries)


def choose(accelerator_id: str | int | None, attached: Sequence[str]) -> str:
    """Return the accelerator of an id or of an ordinal among the visible ones; None means the first.

    Raises:
        AcceleratorNotFound: It is not attached, or not visible.
    """
    visible = visible_accelerators(attached)
    if not visible:
        why = "is empty" if VISIBLE_DEVICES.get() is not None else "is unset, and none is attached"
        raise AcceleratorNotFound(f"no accelerator is visible: {VISIBLE_DEVICES.name} {why}")
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
