"""The URL at which clients reach this server."""

from __future__ import annotations

import re
from typing import Any

from tinyserver.api.calls import Call

_HOST = re.compile(r"(?:[A-Za-z0-9._-]{1,255}|\[[0-9A-Fa-f:.]{2,45}\])(?::\d{1,5})?")


class PublicUrl:
    """``public_url`` as configured. Without it, the URL by which the client came: at home that is all there is.

    :param configured: the setting; empty where there is none.
    """

    def __init__(self, configured: str) -> None:
        self._configured = configured.rstrip("/")

    def of(self, call: Call[Any, Any]) -> str:
        """The URL without a slash at its end."""
        if self._configured:
            return self._configured
        # Whoever lies about these is told the lie back, and nobody else: no such answer may be cached.
        host = _host(call)
        return f"{'https' if self.is_secure(call) else 'http'}://{host if _HOST.fullmatch(host) else 'localhost'}"

    def is_secure(self, call: Call[Any, Any]) -> bool:
        """Whether the client came by TLS, as far as this server or the proxy before it knows."""
        if call.scope.get("scheme") == "https" or call.headers.get("x-forwarded-proto", "").lower() == "https":
            return True
        # A proxy that does not say so. At home people come by another name, without TLS.
        scheme, _, rest = self._configured.partition("://")
        return scheme == "https" and rest.partition("/")[0] == _host(call)


def _host(call: Call[Any, Any]) -> str:
    return call.headers.get("host", "")
