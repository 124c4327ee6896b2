"""Mailboxes in which two devices of a user meet when one signs the other in by a QR code.

What lies in them is end-to-end encrypted by the devices. They live in memory, for minutes.

spec: MSC4108 (with its HTTP rendezvous), MSC4388
"""

from __future__ import annotations

import secrets
from collections.abc import Callable
from dataclasses import dataclass

from tinyserver.protocol.errors import NotFound, TooLarge

LIFETIME_SECONDS = 240.0
MAX_CONTENT = 4096
"""Bytes of one message."""
_MAX_MAILBOXES = 100


@dataclass(slots=True)
class Mailbox:
    """One message at a time. `version` is another one after every change; times are of the wall clock, in ms."""

    mailbox_id: str
    content: bytes
    version: str
    modified: int
    expires: int
    deadline: float


class VersionConflict(Exception):
    """Somebody else has changed the mailbox meanwhile."""


class Mailboxes:
    """All mailboxes of one kind; at most so many, the oldest makes room.

    Args:
        monotonic: seconds of a clock that only runs forward.
        now_ms: the time, ms since 1970.
    """

    def __init__(
        self, monotonic: Callable[[], float], now_ms: Callable[[], int], *, capacity: int = _MAX_MAILBOXES
    ) -> None:
        self._monotonic = monotonic
        self._now_ms = now_ms
        self._capacity = capacity
        self._mailboxes: dict[str, Mailbox] = {}

    def __len__(self) -> int:
        """How many there are; never more than the capacity."""
        return len(self._mailboxes)

    def create(self, content: bytes) -> Mailbox:
        """A mailbox with its first message. Raises TooLarge."""
        _check_size(content)
        now, now_ms = self._monotonic(), self._now_ms()
        for mailbox_id, mailbox in list(self._mailboxes.items()):  # the oldest first
            if mailbox.deadline > now and len(self._mailboxes) < self._capacity:
                break
            del self._mailboxes[mailbox_id]
        made = Mailbox(
            secrets.token_urlsafe(24),
            content,
            _new_version(),
            now_ms,
            now_ms + int(LIFETIME_SECONDS * 1000),
            now + LIFETIME_SECONDS,
        )
        self._mailboxes[made.mailbox_id] = made
        return made

    def get(self, mailbox_id: str) -> Mailbox:
        """A mailbox. Raises NotFound when there is none, or no longer."""
        mailbox = self._mailboxes.get(mailbox_id)
        if mailbox is None or mailbox.deadline <= self._monotonic():
            raise NotFound("There is no such rendezvous, or it has expired. Start the sign-in again.")
        return mailbox

    def put(self, mailbox_id: str, version: str, content: bytes) -> Mailbox:
        """Replace the message of the given version.

        Raises:
            NotFound, TooLarge.
            VersionConflict: the mailbox has another version by now.
        """
        _check_size(content)
        mailbox = self.get(mailbox_id)
        if mailbox.version != version:
            raise VersionConflict
        mailbox.content, mailbox.version, mailbox.modified = content, _new_version(), self._now_ms()
        return mailbox

    def remove(self, mailbox_id: str) -> None:
        """Throw a mailbox away. Raises NotFound."""
        del self._mailboxes[self.get(mailbox_id).mailbox_id]

    def remaining_ms(self, mailbox: Mailbox) -> int:
        """How long a mailbox will still live."""
        return max(0, int((mailbox.deadline - self._monotonic()) * 1000))


def _check_size(content: bytes) -> None:
    if len(content) > MAX_CONTENT:
        raise TooLarge(f"A rendezvous holds no more than {MAX_CONTENT} bytes.")


def _new_version() -> str:
    return secrets.token_urlsafe(12)
