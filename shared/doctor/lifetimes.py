"""How long a certificate lasts."""

from __future__ import annotations

from datetime import datetime

from cryptography import x509

from shared.doctor.report import Check, fail, ok, warn
from shared.trust.certificates import days_left

WARN_DAYS = 30


def check_lifetime(
    name: str, certificate: x509.Certificate, now: datetime, *, renewed_by: str, replaced_by: str
) -> Check:
    """Check a certificate's period.

    Args:
        name: what it is for, in one word.
        certificate: to look at.
        now: current time.
        renewed_by: what to do while it still holds.
        replaced_by: what to do once it does not.
    """
    check, left = f"certificate_{name}", days_left(certificate, now)
    if now < certificate.not_valid_before_utc:
        text = f"the {name} certificate is not valid yet"
        return fail(check, "not_valid_yet", text, "set this machine's clock")
    if left < 0:
        text = f"the {name} certificate expired {-left:.0f} days ago"
        return fail(check, "expired", text, replaced_by)
    if left < WARN_DAYS:
        text = f"the {name} certificate expires in {left:.0f} days"
        return warn(check, "expires_soon", text, renewed_by)
    return ok(check, f"the {name} certificate lasts {left:.0f} days")
