"""Sticky events: for a while they reach everybody in the room, also those who come later or were away.

spec: MSC4354
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

STICKY: Final = "msc4354_sticky"
"""The key of a PDU that says for how long, as long as the proposal is open."""
TTL: Final = "msc4354_sticky_duration_ttl_ms"
"""The key of `unsigned` that says for how long still."""
MAX_DURATION_MS: Final = 3_600_000
_KEYS: Final = (STICKY, "sticky")


def sticky_duration(pdu: Mapping[str, Any]) -> int | None:
    """For how many milliseconds a PDU is sticky; None if it is not."""
    for key in _KEYS:
        if key in pdu:
            said = pdu[key]
            duration = said.get("duration_ms") if isinstance(said, dict) else None
            if isinstance(duration, int) and not isinstance(duration, bool) and duration > 0:
                return min(duration, MAX_DURATION_MS)
    return None


def sticky_until(pdu: Mapping[str, Any], received_ms: int) -> int | None:
    """Until when (ms since 1970) a PDU is sticky that was received at a time; None if it is not."""
    duration = sticky_duration(pdu)
    return None if duration is None else min(received_ms, pdu["origin_server_ts"]) + duration
