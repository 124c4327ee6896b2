"""Finding people: users who share a room with the one who searches, and those in rooms that are open to everybody.

spec: client-server-api#user-directory, client-server-api#mutual-rooms
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from tinyserver.accounts.requester import Requester
from tinyserver.protocol.errors import InvalidParam
from tinyserver.protocol.identifiers import is_valid_user_id
from tinyserver.protocol.search_text import words
from tinyserver.search.indexing import SearchIndexing
from tinyserver.storage import accounts, events, names, profiles, rooms, user_directory
from tinyserver.storage.database import Database
from tinyserver.storage.transaction import ReadTransaction

DEFAULT_LIMIT = 10
MAX_LIMIT = 50
MAX_EXAMINED = 500
"""How many users with fitting names are looked at."""
MAX_WORDS = 10
MUTUAL_ROOMS = 500
"""How many rooms in common one page has at most."""
_TOKEN = re.compile(r"m(\d{1,18})", re.ASCII)


@dataclass(frozen=True, slots=True)
class FoundUser:
    """A user, with the name and the avatar that the one who searches may see."""

    user_id: str
    display_name: str | None
    avatar_url: str | None


@dataclass(frozen=True, slots=True)
class FoundUsers:
    """The best of those who fit; `limited`: there are more."""

    users: Sequence[FoundUser]
    limited: bool


@dataclass(frozen=True, slots=True)
class MutualRooms:
    """Rooms that two users are in: some, how many altogether, and the token for more, if there are."""

    room_ids: Sequence[str]
    count: int
    next: str | None


class UserDirectory:
    """Finds users.

    Args:
        db: where they are stored.
        indexing: notes names; is brought up to date before each search.
        server_name: this server.
        own_account: the user ID of the server's own account, which is not found.
    """

    def __init__(self, db: Database, indexing: SearchIndexing, server_name: str, own_account: str = "") -> None:
        self._own_account = own_account
        self._db = db
        self._indexing = indexing
        self._suffix = f":{server_name}"

    async def search(self, requester: Requester, term: str, limit: int | None) -> FoundUsers:
        """The users whose ID or name has words that begin with those of the term.

        Args:
            term: words, or a user ID or the beginning of one.

        Raises:
            InvalidParam: the limit is negative.
        """
        if limit is not None and limit < 0:
            raise InvalidParam("The limit must not be negative.")
        most = DEFAULT_LIMIT if limit is None else min(limit, MAX_LIMIT)
        term = term.strip()
        domain = ""
        if term.startswith("@"):
            term, _, domain = term[1:].partition(":")
        wanted = list(dict.fromkeys(words(term)))[:MAX_WORDS]
        if not wanted:
            return FoundUsers((), False)
        await self._indexing.catch_up()

        def step(tx: ReadTransaction) -> FoundUsers:
            candidates = user_directory.with_words(tx, requester.user_nid, wanted, MAX_EXAMINED)
            found: list[tuple[tuple[Any, ...], FoundUser]] = []
            for user, listed in candidates:
                user_id = names.text(tx, user)
                if not user_id.partition(":")[2].startswith(domain):
                    continue
                shown = self._shown(tx, requester.user_nid, user, user_id)
                if shown is not None:
                    found.append((self._rank(shown, wanted, listed.split()), shown))
            found.sort(key=lambda each: each[0])
            is_limited = len(found) > most or len(candidates) == MAX_EXAMINED
            return FoundUsers([shown for _, shown in found[:most]], is_limited)

        return await self._db.read(step)

    async def mutual_rooms(self, requester: Requester, user_id: str, token: str | None) -> MutualRooms:
        """A page of the rooms that both users are in.

        Raises:
            InvalidParam: that is no user ID, or the requester's own; or the token is none.
        """
        if not is_valid_user_id(user_id):
            raise InvalidParam(f"{user_id[:100]!r} is not a user ID")
        if user_id == requester.user_id:
            raise InvalidParam("You have every room of yours in common with yourself.")
        after = 0
        if token:
            found = _TOKEN.fullmatch(token)
            if found is None:
                raise InvalidParam("The value of 'from' is not a token that this server gave out.")
            after = int(found[1])

        def step(tx: ReadTransaction) -> MutualRooms:
            shared, count = user_directory.mutual_rooms(tx, requester.user_nid, user_id, after, MUTUAL_ROOMS + 1)
            page = shared[:MUTUAL_ROOMS]
            following = f"m{page[-1]}" if len(shared) > MUTUAL_ROOMS else None
            return MutualRooms([rooms.room_id(tx, nid) for nid in page], count, following)

        return await self._db.read(step)

    def _shown(self, tx: ReadTransaction, reader: int, user: int, user_id: str) -> FoundUser | None:
        """A user as the reader may see them; None: not at all."""
        if user_id == self._own_account:
            return None
        if user_id.endswith(self._suffix):
            account = accounts.get(tx, user)
            if account is None or account.is_deactivated or account.is_guest:
                return None
        event = user_directory.met_in(tx, reader, user)
        if event is None:
            event = user_directory.seen_in(tx, user)
        if event is None:
            return None
        if user_id.endswith(self._suffix):
            return FoundUser(user_id, *profiles.shown_in_rooms(tx, user))
        content = events.get(tx, event).event.content
        name, avatar = content.get("displayname"), content.get("avatar_url")
        return FoundUser(user_id, name if isinstance(name, str) else None, avatar if isinstance(avatar, str) else None)

    def _rank(self, user: FoundUser, wanted: Sequence[str], listed: Sequence[str]) -> tuple[Any, ...]:
        """What sorts the best first: whole words before beginnings, the own server's users before others, those who
        have a profile before those who have none."""
        localpart = words(user.user_id[1:].partition(":")[0])
        name = words(user.display_name or "")
        whole = sum(word in listed for word in wanted)
        return (
            wanted not in (localpart, name),
            -whole,
            not user.user_id.endswith(self._suffix),
            user.display_name is None and user.avatar_url is None,
            user.user_id,
        )
