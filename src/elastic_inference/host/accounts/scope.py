"""What somebody may see of a host: all of it, what is one tenant's, or one accelerator."""

from __future__ import annotations

from dataclasses import dataclass

OPERATOR = ""
"""In place of a tenant's name: what is the operator's own."""


@dataclass(frozen=True)
class Scope:
    """What is seen.

    Attributes:
        tenant: What is this tenant's alone; None: not told by tenant.
        accelerator_id: This accelerator alone; None: not told by accelerator.
        since: Nothing that was before, in seconds since 1970: what another tenant of the same name had and did.
    """

    tenant: str | None = None
    accelerator_id: str | None = None
    since: float = 0.0

    @property
    def is_all(self) -> bool:
        """Whether nothing is left out."""
        return self.tenant is None and self.accelerator_id is None

    def covers(self, accelerator_id: str | None, tenant: str | None) -> bool:
        """Whether something is seen that belongs to this accelerator and this tenant; None: to none."""
        if self.accelerator_id is not None:
            return accelerator_id == self.accelerator_id
        return self.tenant is None or tenant == self.tenant


ALL = Scope()
