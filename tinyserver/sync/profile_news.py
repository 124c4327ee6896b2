"""The profiles of users here with whom somebody shares a room, as far as a client asks for their fields.

What users of other servers have in their profiles is known only when it is asked for; their names and avatars come with
member events.

spec: MSC4262, MSC4429
"""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from itertools import islice
from typing import Any

import msgspec

from tinyserver.bell import Bell
from tinyserver.storage import events, memberships, names, profiles
from tinyserver.storage.membership_changes import changed_since, member_event_at
from tinyserver.storage.memberships import Membership
from tinyserver.storage.transaction import ReadTransaction, Topic
from tinyserver.sync.requests import Reader

MAX_MOVED = 500
"""After the moves of more users than this, all profiles are told anew."""


class ProfileNews(msgspec.Struct, frozen=True):
    """The fields of a profile that are new to a client, and those that are no more."""

    updated: Mapping[str, Any]
    removed: Sequence[str] = ()


class ProfileQuestion(msgspec.Struct, frozen=True):
    """What a client lacks of profiles: the `fields` it wants (None: all) where they changed after the position `since`
    (None: all that are set). `moved` are the users here who came into rooms or left them meanwhile."""

    fields: frozenset[str] | None
    since: int | None
    moved: Sequence[int] = ()


def question(bell: Bell, fields: frozenset[str] | None, since: int | None) -> ProfileQuestion | None:
    """The question of a client that was told of profiles up to a position, or None where nothing can have changed."""
    if fields is not None and not fields:
        return None
    if since is None:
        return ProfileQuestion(fields, None)
    if bell.newest((Topic.PROFILE, Topic.MEMBERSHIP)) <= since:
        return None
    changes = bell.changes[Topic.MEMBERSHIP]
    moved = list(islice(changes.after(since), MAX_MOVED + 1))
    if since < changes.complete_since or len(moved) > MAX_MOVED:
        return ProfileQuestion(fields, None)
    return ProfileQuestion(fields, since, moved)


def read_profiles(
    tx: ReadTransaction, reader: Reader, joined: Collection[int], asked: ProfileQuestion, until: int
) -> dict[str, ProfileNews | None]:
    """The answer up to a position, by user ID; None for who shares no room with the reader any more.

    Args:
        joined: the rooms that the reader is in.
    """
    found: dict[int, ProfileNews | None] = {}
    since = asked.since or 0
    for row in profiles.changed_between(tx, since, until):
        names_of_changed = None if asked.since is None else {name for name, at in row.changes.items() if at > since}
        news = _news(json.loads(row.fields), asked.fields, names_of_changed)
        if news is not None and _is_known(tx, row.user, reader, joined):
            found[row.user] = news
    if asked.since is not None:
        _add_moved(tx, reader, joined, asked, since, found)
    return {names.text(tx, user): news for user, news in found.items()}


def _news(
    fields: Mapping[str, Any], wanted: frozenset[str] | None, changed: Collection[str] | None
) -> ProfileNews | None:
    """What a profile has of the wanted fields, as far as they changed (None: whatever they are); None for nothing."""
    candidates = [name for name in (fields if changed is None else changed) if wanted is None or name in wanted]
    news = ProfileNews(
        {name: fields[name] for name in candidates if name in fields},
        [name for name in candidates if name not in fields],
    )
    return news if news.updated or news.removed else None


def _is_known(tx: ReadTransaction, user: int, reader: Reader, joined: Collection[int]) -> bool:
    return user == reader.user or any(room in joined for room in memberships.joined_rooms(tx, user))


def _add_moved(
    tx: ReadTransaction,
    reader: Reader,
    joined: Collection[int],
    asked: ProfileQuestion,
    since: int,
    found: dict[int, ProfileNews | None],
) -> None:
    """Add the whole profiles of those who share a room with the reader only now, and those who do no more."""
    newcomers = set()
    for user in asked.moved:
        if user == reader.user:
            for row in changed_since(tx, user, since):
                if row.membership is Membership.JOIN and not _was_joined(tx, row.room, user, since):
                    newcomers.update(memberships.local_members(tx, row.room))
            continue
        moves = [row for row in changed_since(tx, user, since) if row.room in joined]
        now = {room for room in memberships.joined_rooms(tx, user) if room in joined}
        stayed = now - {row.room for row in moves}
        before = bool(stayed) or any(_was_joined(tx, row.room, user, since) for row in moves)
        if now and not before:
            newcomers.add(user)
        elif before and not now:
            found[user] = None
    for user in newcomers:
        news = _news(json.loads(profiles.get(tx, user) or "{}"), asked.fields, None)
        if news is not None:
            found[user] = news


def _was_joined(tx: ReadTransaction, room: int, user: int, position: int) -> bool:
    event = member_event_at(tx, room, user, position)
    return event is not None and events.get(tx, event).event.membership == "join"
