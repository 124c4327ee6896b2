"""Certificates of the servers that are connected to."""

from __future__ import annotations

import ssl
from collections.abc import Callable, Sequence
from datetime import UTC, datetime

from tinyserver.outgoing.errors import Unreachable

# X509_V_FLAG_NO_CHECK_TIME, which the ssl module does not name.
_NO_CHECK_TIME = 0x200000
_DAY_MS = 24 * 3600 * 1000
_EARLIEST_MS = int(datetime(2026, 1, 1, tzinfo=UTC).timestamp() * 1000)
"""This program is not older: a machine that believes in an earlier time has no clock."""


class TlsClient:
    """Makes the TLS context of outgoing connections when it is first needed: the certificates of all authorities cost
    more than two megabytes.

    A board without a battery-backed clock may believe in 1970, and could then never connect anywhere: every
    certificate would be "not yet valid". Where the machine's time is certainly wrong, dates are compared with the best
    known time instead, and only against certificates that had run out by then.

    Args:
        verify: check certificates at all.
        extra_ca_files: further authorities, PEM files.
        wall_ms: the time as the machine believes.
        best_known_ms: the time as far as it is known: never before the newest stored event.
    """

    def __init__(
        self,
        *,
        verify: bool,
        extra_ca_files: Sequence[str],
        wall_ms: Callable[[], int],
        best_known_ms: Callable[[], int],
    ) -> None:
        self._verify = verify
        self._extra_ca_files = list(extra_ca_files)
        self._wall_ms = wall_ms
        self._best_known_ms = best_known_ms
        self._context: ssl.SSLContext | None = None
        self._timeless = False

    def context(self) -> ssl.SSLContext:
        """The context to connect with now.

        Raises:
            Unreachable: a file of `extra_ca_files` cannot be used.
        """
        timeless = self._verify and self._clock_is_wrong()
        if self._context is None or timeless is not self._timeless:
            self._context = self._make(timeless)
            self._timeless = timeless
        return self._context

    def check(self, connection: ssl.SSLObject) -> None:
        """After the handshake: where its dates were not looked at, compare them with the best known time.

        Raises:
            Unreachable: the certificate has run out.
        """
        if not self._timeless or not self._verify:
            return
        certificate = connection.getpeercert() or {}
        ends = certificate.get("notAfter")
        best_known_ms = max(self._best_known_ms(), _EARLIEST_MS)
        if isinstance(ends, str) and ssl.cert_time_to_seconds(ends) * 1000 < best_known_ms:
            raise Unreachable("the certificate has expired")

    def _clock_is_wrong(self) -> bool:
        wall = self._wall_ms()
        return wall < _EARLIEST_MS or wall < self._best_known_ms() - _DAY_MS

    def _make(self, timeless: bool) -> ssl.SSLContext:
        context = ssl.create_default_context()
        context.verify_flags &= ~ssl.VERIFY_X509_STRICT  # newer Pythons set it; home-made authorities seldom fulfil it
        if not self._verify:
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
            return context
        try:
            for file in self._extra_ca_files:
                context.load_verify_locations(cafile=file)
        except (OSError, ssl.SSLError) as error:
            raise Unreachable(f"outgoing.extra_ca_files: {file} cannot be used: {error}", local=True) from error
        if timeless:
            context.verify_flags |= _NO_CHECK_TIME
        return context
