"""Hands mails to the mail server of the configuration."""

from __future__ import annotations

import asyncio
import logging
import re
import ssl
from typing import TYPE_CHECKING

from tinyserver.config import Smtp
from tinyserver.mail.message import Mail, written
from tinyserver.outgoing.addresses import AddressPolicy
from tinyserver.outgoing.dns import Resolver
from tinyserver.outgoing.errors import OutgoingError
from tinyserver.outgoing.targets import Hop
from tinyserver.outgoing.tls import TlsClient

if TYPE_CHECKING:
    from aiosmtplib import SMTP

log = logging.getLogger(__name__)

SECONDS = 30.0
"""For one mail, its turn not counted."""
MAX_WAITING = 50
_HOST = re.compile(r"[A-Za-z0-9.-]{1,255}")


class MailFailed(Exception):
    """A mail was not taken by the mail server.

    Args:
        is_lasting: it will not be taken later either: the mail server refuses this recipient for good.
    """

    def __init__(self, message: str, *, is_lasting: bool = False) -> None:
        super().__init__(message)
        self.is_lasting = is_lasting


class Mailer:
    """Sends one mail at a time, each on a connection of its own; a few may wait for their turn.

    Nothing is kept of a mail that fails: whoever sends it is told, and says it again.

    Args:
        smtp: the mail server.
        server_name: this server.
    """

    def __init__(self, smtp: Smtp, server_name: str, resolver: Resolver, tls: TlsClient) -> None:
        self._smtp = smtp
        host = server_name.partition(":")[0]
        self._host = host if _HOST.fullmatch(host) else "localhost"
        self._resolver = resolver
        self._tls = tls
        self._turn = asyncio.Lock()
        self._waiting = 0

    @property
    def is_configured(self) -> bool:
        """Whether there is a mail server."""
        return bool(self._smtp.host)

    async def send(self, mail: Mail) -> None:
        """Have a mail taken by the mail server.

        Raises:
            MailFailed: there is no mail server, it cannot be reached or refuses, or too many mails wait already.
        """
        if not self.is_configured:
            raise MailFailed("no mail server is configured")
        if self._waiting >= MAX_WAITING:
            raise MailFailed(f"{MAX_WAITING} mails wait already")
        self._waiting += 1
        try:
            async with self._turn, asyncio.timeout(SECONDS):
                await self._hand_over(mail)
        except TimeoutError as error:
            raise self._failed(f"no answer within {SECONDS:g} s") from error
        except (OutgoingError, OSError, ssl.SSLError) as error:
            raise self._failed(str(error)) from error
        finally:
            self._waiting -= 1

    async def check(self) -> None:
        """See that the mail server can be reached and lets this server in. Raises MailFailed."""
        from aiosmtplib import SMTPException

        try:
            async with asyncio.timeout(SECONDS):
                (await self._connected()).close()
        except TimeoutError as error:
            raise MailFailed(f"no answer within {SECONDS:g} s") from error
        except (OutgoingError, OSError, ssl.SSLError, SMTPException) as error:
            raise MailFailed(" ".join(str(error).split())[:500]) from error

    async def _hand_over(self, mail: Mail) -> None:
        # Only a server that sends mail needs it.
        from aiosmtplib import SMTPException, SMTPRecipientRefused, SMTPRecipientsRefused, SMTPResponseException

        message = written(mail, self._smtp.sender, self._host)
        try:
            connection = await self._connected()
            try:
                await connection.send_message(message)
            finally:
                connection.close()
        except SMTPRecipientsRefused as error:
            refusals = [each for each in error.recipients if isinstance(each, SMTPRecipientRefused)]
            codes = [each.code for each in refusals]
            raise self._failed(f"the recipient is refused ({codes})", lasting=all(c >= 500 for c in codes)) from error
        except SMTPResponseException as error:
            raise self._failed(f"{error.code} {error.message}") from error
        except SMTPException as error:
            raise self._failed(str(error)) from error

    async def _connected(self) -> SMTP:
        from aiosmtplib import SMTP

        from tinyserver.outgoing.network import Network

        smtp = self._smtp
        # Where the mail server is, the administrator has said: it may be at a private address.
        network = Network(self._resolver, AddressPolicy(allow_private=True), self._tls)
        sock = await network.open_socket(Hop(smtp.host, smtp.port))
        try:
            connection = SMTP(
                hostname=smtp.host,
                sock=sock,
                timeout=SECONDS,
                local_hostname=self._host,
                use_tls=smtp.tls == "tls",
                start_tls=smtp.tls == "starttls",
                tls_context=None if smtp.tls == "none" else self._tls.context(),
                username=smtp.username or None,
                password=smtp.password if smtp.username else None,
            )
            await connection.connect()
        except BaseException:
            sock.close()
            raise
        return connection

    def _failed(self, why: str, *, lasting: bool = False) -> MailFailed:
        # One line for the administrator; whoever asked for the mail is not told about the mail server.
        why = " ".join(why.split())[:500]
        log.warning("a mail could not be sent by %s: %s", self._smtp.host, why)
        return MailFailed(why, is_lasting=lasting)
