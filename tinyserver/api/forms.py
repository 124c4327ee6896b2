"""The body of a form: from a page in a browser, or from a client that speaks OAuth."""

from __future__ import annotations

from typing import Any
from urllib.parse import parse_qsl

from tinyserver.api.calls import Call
from tinyserver.protocol.errors import InvalidParam

_MAX_FORM = 16 * 1024
_MAX_FIELDS = 50


async def read_form(call: Call[Any, Any]) -> dict[str, list[str]]:
    """The fields of a form, each with its values; those without a value are left out.

    Raises:
        InvalidParam: it is not encoded as it should be.
        TooLarge, ClientGone.
    """
    raw = b"".join([piece async for piece in call.stream(_MAX_FORM)])
    fields: dict[str, list[str]] = {}
    try:
        for name, value in parse_qsl(raw.decode("utf-8"), errors="strict", max_num_fields=_MAX_FIELDS):
            fields.setdefault(name, []).append(value)
    except ValueError as error:
        raise InvalidParam("The form is not encoded as it should be.") from error
    return fields
