"""Third-party identifiers: what people are called elsewhere, in their one canonical form.

spec: appendices#3pid-types
"""

from __future__ import annotations

import re

EMAIL = "email"
MSISDN = "msisdn"
MAX_EMAIL = 254

_ATOM = r"[a-z0-9!#$%&'*+/=?^_`{|}~-]+"
_LABEL = r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?"
_EMAIL = re.compile(rf"(?=[^@]{{1,64}}@){_ATOM}(?:\.{_ATOM})*@{_LABEL}(?:\.{_LABEL})*")
_CLIENT_SECRET = re.compile(r"[0-9a-zA-Z.=_-]{1,255}")


def canonical_email(address: str) -> str | None:
    """The form of a mail address in which it is compared, kept and written to; None for what is none.

    Mails must go to this form and never to the one that somebody typed: two that are different mailboxes can have the
    same form. Addresses outside of ASCII are none.
    """
    if len(address) > MAX_EMAIL:
        return None
    folded = address.strip().casefold()
    return folded if len(folded) <= MAX_EMAIL and _EMAIL.fullmatch(folded) else None


def canonical_address(medium: str, address: str) -> str | None:
    """The canonical form of an address of a medium; None for what is none, and for an unknown medium."""
    if medium == EMAIL:
        return canonical_email(address)
    if medium == MSISDN and re.fullmatch(r"[0-9]{1,15}", address):
        return address
    return None


def is_valid_client_secret(secret: str) -> bool:
    """Whether a client may name its validation session so."""
    return _CLIENT_SECRET.fullmatch(secret) is not None
