"""The fields in which somebody chooses a password."""

from __future__ import annotations

from tinyserver.api.web.page import field
from tinyserver.api.web.visit import Visit

MIN_PASSWORD = 8


def new_password_fields(visit: Visit, label: str, *, failed: bool) -> str:
    """Two fields, `password` and `repeated`; `label` is the key of the text for the first."""
    extra = f'autocomplete="new-password" minlength="{MIN_PASSWORD}"'
    hint = visit.text("password_hint")
    return field("password", visit.text(label), kind="password", hint=hint, extra=extra, failed=failed) + field(
        "repeated", visit.text("repeat_password"), kind="password", extra=extra, failed=failed
    )


def refused_password(form: dict[str, str]) -> str:
    """What is wrong with a filled-in pair of fields, as the key of a text; empty: nothing."""
    if form.get("password", "") != form.get("repeated", ""):
        return "error_repeat"
    return "error_weak" if len(form.get("password", "")) < MIN_PASSWORD else ""
