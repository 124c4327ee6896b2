"""A real SMTP server on the loopback that keeps what it gets."""

from __future__ import annotations

import email
import email.policy
import re
import ssl
import time
from email.message import EmailMessage
from types import TracebackType
from typing import Any

from aiosmtpd.controller import Controller
from aiosmtpd.smtp import SMTP, AuthResult

LINK = re.compile(r"https?://\S+")


class _Controller(Controller):
    """At a port that the system chooses."""

    def _trigger_server(self) -> None:
        assert self.server is not None
        self.port = self.server.sockets[0].getsockname()[1]
        super()._trigger_server()  # the controller waits for a sign of life


class MailServer:
    """`with MailServer() as mails:`; `port`, and the mails by `wait_for`.

    `refuse` is the answer to every recipient instead of taking the mail; `login` what must be logged in with.
    """

    def __init__(self, *, login: tuple[str, str] | None = None, context: ssl.SSLContext | None = None) -> None:
        self.mails: list[EmailMessage] = []
        self.refuse = ""
        self.logins: list[tuple[str, str]] = []
        self._login = login
        self._context = context

    def __enter__(self) -> MailServer:
        options: dict[str, Any] = {}
        if self._login is not None:
            options = {"authenticator": self._authenticate, "auth_required": True, "auth_require_tls": False}
        if self._context is not None:
            options |= {"tls_context": self._context, "require_starttls": True}
        self._controller = _Controller(self, hostname="127.0.0.1", port=0, **options)
        self._controller.start()
        self.port: int = self._controller.port
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, where: TracebackType | None
    ) -> None:
        self._controller.stop()

    def _authenticate(self, server: SMTP, session: Any, envelope: Any, mechanism: str, data: Any) -> AuthResult:
        given = (data.login.decode(), data.password.decode())
        self.logins.append(given)
        return AuthResult(success=given == self._login, handled=False)  # aiosmtpd is to say no

    async def handle_RCPT(self, server: SMTP, session: Any, envelope: Any, address: str, options: list[str]) -> str:
        if self.refuse:
            return self.refuse
        envelope.rcpt_tos.append(address)
        return "250 OK"

    async def handle_DATA(self, server: SMTP, session: Any, envelope: Any) -> str:
        message = email.message_from_bytes(envelope.content, policy=email.policy.default)
        assert isinstance(message, EmailMessage)
        assert envelope.rcpt_tos == [message["To"]]
        self.mails.append(message)
        return "250 OK"

    def wait_for(self, count: int) -> EmailMessage:
        """The mail with this number (from 1), once it has come."""
        deadline = time.monotonic() + 20
        while len(self.mails) < count:
            assert time.monotonic() < deadline, f"{len(self.mails)} mails came, not {count}"
            time.sleep(0.01)
        return self.mails[count - 1]


def plain(message: EmailMessage) -> str:
    """The plain text of a mail."""
    part = message.get_body(("plain",))
    assert part is not None
    content: str = part.get_content()
    return content


def html(message: EmailMessage) -> str:
    """The HTML of a mail."""
    part = message.get_body(("html",))
    assert part is not None
    content: str = part.get_content()
    return content


def link_in(message: EmailMessage) -> str:
    """The link in the plain text of a mail."""
    found = LINK.search(plain(message))
    assert found is not None, plain(message)
    return found[0]
