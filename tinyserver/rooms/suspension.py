"""What users whose account is suspended may still send: they leave rooms, and redact their own events.

spec: client-server-api#account-suspension
"""

from __future__ import annotations

from tinyserver.protocol.errors import UserSuspended
from tinyserver.rooms.drafts import EventDraft
from tinyserver.storage import accounts, events
from tinyserver.storage.transaction import ReadTransaction


def is_suspended(tx: ReadTransaction, user_id: str) -> bool:
    """Whether the account of a user of this server is suspended."""
    account = accounts.find(tx, user_id)
    return account is not None and account.is_suspended


def check_suspension(tx: ReadTransaction, draft: EventDraft) -> None:
    """Refuse what a suspended user may not send.

    Raises:
        UserSuspended: the sender is suspended, and this is neither their leaving nor the redaction of an own event.
    """
    if not is_suspended(tx, draft.sender):
        return
    if draft.type == "m.room.member":
        allowed = draft.state_key == draft.sender and draft.content.get("membership") == "leave"
    elif draft.type == "m.room.redaction" and draft.redacts is not None:
        target = events.by_id(tx, draft.redacts)
        allowed = target is not None and target.event.sender == draft.sender
    else:
        allowed = False
    if not allowed:
        raise UserSuspended
