"""What can go wrong with a request that this server makes. None of it is an error of the server itself."""

from __future__ import annotations


class OutgoingError(Exception):
    """A request to another machine did not give what was asked for; the message says why."""


class Unreachable(OutgoingError):
    """No connection, no DNS answer, no valid certificate, or the connection broke.

    Args:
        local: the fault is probably on this side (no network, no DNS server answers).
    """

    def __init__(self, message: str, *, local: bool = False) -> None:
        super().__init__(message)
        self.local = local


class AddressRefused(Unreachable):
    """The address is a private one, which `outgoing.allow_private_addresses` does not allow."""


class TimedOut(OutgoingError):
    """No whole answer came in time."""


class AnswerTooLarge(OutgoingError):
    """The answer is larger than what the request allows."""


class AnswerMalformed(OutgoingError):
    """The answer is not what it must be: no HTTP, no JSON, another type."""


class HttpError(OutgoingError):
    """The other side answered with an error.

    Args:
        status: the HTTP status.
        errcode: Matrix's code in the answer, or None where it holds none.
        message: the other side's words, "" where there are none.
        retry_after: seconds to wait that it asks for, or None.
        is_json: its body is JSON of whatever kind.
    """

    def __init__(
        self,
        status: int,
        errcode: str | None,
        message: str,
        retry_after: float | None = None,
        *,
        is_json: bool = False,
    ) -> None:
        super().__init__(f"{status} {errcode or '(no errcode)'} {message}".rstrip())
        self.status = status
        self.errcode = errcode
        self.message = message
        self.retry_after = retry_after
        self.is_json = is_json or errcode is not None
