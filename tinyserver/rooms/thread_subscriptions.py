"""Subscribing to threads: a user says, or their client guesses, of which threads they want to hear.

spec: MSC4306, MSC4308
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from tinyserver.accounts.requester import Requester
from tinyserver.protocol.errors import (
    ConflictingUnsubscription,
    Forbidden,
    InvalidParam,
    NotFound,
    NotInThread,
    ResourceLimitExceeded,
)
from tinyserver.protocol.relations import relation_of
from tinyserver.rooms.event_access import no_event, visible_event
from tinyserver.rooms.tokens import pagination_token
from tinyserver.rooms.visibility import open_view
from tinyserver.storage import events, rooms, thread_subscriptions
from tinyserver.storage.database import Database
from tinyserver.storage.stored_event import StoredEvent
from tinyserver.storage.thread_subscriptions import SubscriptionRow
from tinyserver.storage.transaction import ReadTransaction, WriteTransaction

MAX_OF_USER = 100_000
"""Of how many threads it is remembered what a user wants."""
MAX_PAGE = 1000


@dataclass(frozen=True, slots=True)
class SubscriptionChanges:
    """What changed: by room ID and the ID of a thread's root. `end` is the token to go on from, into the past, or
    None if this is all."""

    subscribed: dict[str, dict[str, Any]]
    unsubscribed: dict[str, dict[str, Any]]
    end: str | None

    @property
    def is_empty(self) -> bool:
        """Whether nothing changed."""
        return not self.subscribed and not self.unsubscribed


class ThreadRules(Protocol):
    """The push rules for threads (implemented by the push service)."""

    def follow_threads(self, tx: WriteTransaction, user: int) -> None:
        """A user subscribes to a thread, perhaps for the first time."""


class ThreadSubscriptions:
    """Keeps what users want of threads.

    Args:
        rules: told of those who subscribe.
    """

    def __init__(self, db: Database, rules: ThreadRules) -> None:
        self._db = db
        self._rules = rules

    async def subscribe(self, requester: Requester, room_id: str, root_id: str, cause_id: str | None) -> None:
        """Subscribe to a thread.

        Args:
            cause_id: the event because of which the client subscribes by itself; None: the user wants it.

        Raises:
            NotFound: no such room or thread that the user could see.
            InvalidParam: one of the IDs is none of an event.
            NotInThread: the cause is not an event of this thread.
            ConflictingUnsubscription: the user has unsubscribed since then.
        """

        def step(tx: WriteTransaction) -> None:
            root = _root(tx, requester, room_id, root_id)
            known = thread_subscriptions.get(tx, requester.user_nid, root.nid)
            if cause_id is not None:
                cause = _cause(tx, root, cause_id)
                if known is not None and known.automatic is None and (cause.place or 0) <= known.position:
                    raise ConflictingUnsubscription
                if known is not None and known.automatic is not None:
                    return  # there is nothing to add to it
            elif known is not None and known.automatic is False:
                return
            if known is None and thread_subscriptions.count(tx, requester.user_nid) >= MAX_OF_USER:
                raise ResourceLimitExceeded("You have subscribed to too many threads.")
            self._rules.follow_threads(tx, requester.user_nid)
            automatic = cause_id is not None
            thread_subscriptions.put(tx, requester.user_nid, root.room, root.nid, automatic=automatic)

        await self._db.write(step)

    async def unsubscribe(self, requester: Requester, room_id: str, root_id: str) -> None:
        """Hear of a thread no more. Raises NotFound, InvalidParam as :meth:`subscribe` does."""

        def step(tx: WriteTransaction) -> None:
            root = _root(tx, requester, room_id, root_id)
            known = thread_subscriptions.get(tx, requester.user_nid, root.nid)
            if known is not None and known.automatic is not None:
                thread_subscriptions.put(tx, requester.user_nid, root.room, root.nid, automatic=None)

        await self._db.write(step)

    async def is_automatic(self, requester: Requester, room_id: str, root_id: str) -> bool:
        """Whether a subscription was made by the client itself. Raises NotFound also where there is none."""

        def step(tx: ReadTransaction) -> bool:
            root = _root(tx, requester, room_id, root_id)
            known = thread_subscriptions.get(tx, requester.user_nid, root.nid)
            if known is None or known.automatic is None:
                raise NotFound("You have not subscribed to this thread.")
            return known.automatic

        return self._db.glance(step)

    async def changes(self, user: int, since: int, until: int, limit: int) -> SubscriptionChanges:
        """What changed at a position in (since, until], the newest first, so many at most."""
        return await self._db.read(lambda tx: changes_between(tx, user, since, until, min(limit, MAX_PAGE)))


def changes_between(tx: ReadTransaction, user: int, since: int, until: int, limit: int) -> SubscriptionChanges:
    """What a user changed at a position in (since, until]: the newest, so many at most."""
    found: Sequence[SubscriptionRow] = thread_subscriptions.changed_between(tx, user, since, until, limit + 1)
    end = pagination_token(found[limit].position) if len(found) > limit else None
    found = found[:limit]
    room_ids = rooms.ids(tx, {each.room for each in found})
    roots = events.get_many(tx, [each.root for each in found], keep=False)
    changes = SubscriptionChanges({}, {}, end)
    for each in found:
        root_id = roots[each.root].event_id
        if each.automatic is None:
            changes.unsubscribed.setdefault(room_ids[each.room], {})[root_id] = {"bump_stamp": each.position}
        else:
            shown = {"automatic": each.automatic, "bump_stamp": each.position}
            changes.subscribed.setdefault(room_ids[each.room], {})[root_id] = shown
    return changes


def _root(tx: ReadTransaction, requester: Requester, room_id: str, root_id: str) -> StoredEvent:
    """The event that a thread begins with, or may begin with."""
    if not root_id.startswith("$"):
        raise InvalidParam("The ID of the thread is not one of an event.")
    try:
        view = open_view(tx, room_id, requester)
    except Forbidden:
        raise no_event(root_id) from None
    root, _ = visible_event(tx, view, root_id)
    if root.thread is not None:
        raise NotFound("This event is in a thread, but does not begin one.")
    return root


def _cause(tx: ReadTransaction, root: StoredEvent, cause_id: str) -> StoredEvent:
    if not cause_id.startswith("$"):
        raise InvalidParam("The cause is not the ID of an event.")
    cause = events.by_id(tx, cause_id)
    if cause is None or cause.room != root.room or cause.place is None:
        raise NotInThread
    if cause.thread != root.nid and relation_of(cause.event.content).thread_root != root.event_id:
        raise NotInThread
    return cause
