"""Dates in HTTP headers."""

from __future__ import annotations

import time
from calendar import timegm


def http_date_ms(text: str) -> int | None:
    """Milliseconds since 1970 of a date such as `Sun, 06 Nov 1994 08:49:37 GMT`, or None for anything else."""
    try:
        parsed = time.strptime(text.strip(), "%a, %d %b %Y %H:%M:%S GMT")
    except ValueError:
        return None
    return timegm(parsed) * 1000
