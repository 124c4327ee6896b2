"""Errors as OAuth 2.0 knows them.

spec: RFC 6749 section 5.2, RFC 7591 section 3.2.2, RFC 8628 section 3.5
"""

from __future__ import annotations

from typing import Any

from tinyserver.protocol.errors import MatrixError


class OAuthError(MatrixError):
    """An error whose body has OAuth's keys instead of Matrix's.

    :param code: OAuth's error code, such as ``invalid_grant``.
    :param description: for the developer of the client; ASCII without quotation marks and backslashes.
    """

    def __init__(self, code: str, description: str, *, status: int = 400) -> None:
        super().__init__(description, status=status, headers={"Cache-Control": "no-store"})
        self.code = code

    def body(self) -> dict[str, Any]:
        """``error`` and ``error_description``."""
        return {"error": self.code, "error_description": self.message}
