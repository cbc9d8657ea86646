"""Names that operators and users give accelerators."""

from __future__ import annotations

from elastic_inference.errors import InvalidInput

MAX_NAME_LENGTH = 100


def check_name(name: str | None) -> str | None:
    """Return it where it can be said in every place that takes a name: a path, a list with commas, beside ordinals."""
    if name is None:
        return None
    if not (0 < len(name) <= MAX_NAME_LENGTH and name.isprintable() and name == name.strip()):
        raise InvalidInput(
            f"name {name!r:.120} is not 1 to {MAX_NAME_LENGTH} printable characters without spaces around them"
        )
    if set(name) & set("/\\,") or name.isdigit() or name.startswith("eia-"):
        raise InvalidInput(
            f"name {name!r:.120} must hold no slash or comma, be no number, which would be an ordinal, and not "
            "begin with eia-, as ids do"
        )
    return name
