"""What a client can ask for on the account pages, under the names of the specification and those from before it.

spec: client-server-api#account-management-url-actions
"""

from __future__ import annotations

PROFILE = "org.matrix.profile"
DEVICES = "org.matrix.devices_list"
DEVICE_VIEW = "org.matrix.device_view"
DEVICE_DELETE = "org.matrix.device_delete"
DEACTIVATE = "org.matrix.account_deactivate"
RESET = "org.matrix.cross_signing_reset"

_BEFORE = {
    "org.matrix.sessions_list": DEVICES,
    "org.matrix.session_view": DEVICE_VIEW,
    "org.matrix.session_end": DEVICE_DELETE,
}
ACTION_NAMES = (PROFILE, DEVICES, DEVICE_VIEW, DEVICE_DELETE, DEACTIVATE, RESET, *_BEFORE)
"""What is told to clients: all names."""


def action_named(name: str) -> str:
    """The action that a client means, also by a name without its prefix; empty for none that is known."""
    full = name if name.startswith("org.matrix.") else f"org.matrix.{name}"
    full = _BEFORE.get(full, full)
    return full if full in ACTION_NAMES else ""
