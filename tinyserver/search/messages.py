"""Searching the messages, names and topics of rooms, for one user: only what they may see, and no encrypted rooms.

What fits is gathered in pools: the newest of what the index names, as far as the user may see it. A pool is put into
the order that the client wants, and its pages are given out one after the other; then comes the next pool, of older
events. A token names the pool by the nid below which it begins.

spec: client-server-api#server-side-search
"""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

from tinyserver.accounts.ignored_users import IgnoredUsers
from tinyserver.accounts.requester import Requester
from tinyserver.clock import Clock
from tinyserver.protocol.errors import Forbidden, InvalidParam
from tinyserver.protocol.filters import EventMatcher, RoomEventFilter
from tinyserver.protocol.relations import is_valid_edit, relation_of
from tinyserver.protocol.search_text import KEYS, score, searchable_text, words
from tinyserver.rooms.event_access import aggregations_for
from tinyserver.rooms.rendering import EventRenderer
from tinyserver.rooms.timeline_scan import TimelineScan
from tinyserver.rooms.tokens import pagination_token
from tinyserver.rooms.visibility import RoomView, open_view
from tinyserver.search.indexing import SearchIndexing
from tinyserver.storage import events, names, relations, room_state, rooms, search_index, state_trie
from tinyserver.storage.database import Database
from tinyserver.storage.search_index import Match
from tinyserver.storage.stored_event import Flag, StoredEvent
from tinyserver.storage.transaction import ReadTransaction

DEFAULT_LIMIT = 10
MAX_LIMIT = 50
"""How many results a page has at most."""
POOL = 300
"""How many results are put into order together."""
MAX_EXAMINED = 5_000
"""How many events are looked at for one pool."""
MAX_CONTEXT = 25
"""How many events are given before and after a result at most."""
MAX_TERMS = 20
MAX_STATE = 1_000
"""Of rooms with more state only the members who sent the results are given, besides everything else."""
_BATCH = 150
_TOKEN = re.compile(r"q(\d{1,19})-(\d{1,4})(?:-([ru])(\d{1,18}))?", re.ASCII)
_FROM_THE_END = 2**62

GroupKey = Literal["room_id", "sender"]


@dataclass(frozen=True, slots=True)
class ContextRequest:
    """What is wanted around each result."""

    before: int = 5
    after: int = 5
    with_profiles: bool = False


@dataclass(frozen=True, slots=True)
class SearchRequest:
    """What a client looks for; `keys` empty: in all of them."""

    term: str
    keys: Collection[str] = ()
    filter: RoomEventFilter | None = None
    recent_first: bool = False
    context: ContextRequest | None = None
    with_state: bool = False
    groups: Collection[GroupKey] = ()
    token: str | None = None


@dataclass(frozen=True, slots=True)
class ResultContext:
    """What happened around a result: JSON texts, before it the newest first; tokens for the two ends; the profiles of
    the senders then."""

    before: Sequence[bytes]
    after: Sequence[bytes]
    start: str
    end: str
    profiles: dict[str, dict[str, str]] | None


@dataclass(frozen=True, slots=True)
class Result:
    """An event that fits, as JSON, and how well."""

    event: bytes
    rank: float
    context: ResultContext | None


@dataclass(slots=True)
class Group:
    """Results with one room or one sender: their IDs, and a token for more of them."""

    order: int
    results: list[str] = field(default_factory=list)
    next: str | None = None


@dataclass(frozen=True, slots=True)
class SearchPage:
    """A page of results; `count` says about how many there are, as far as has been looked."""

    results: Sequence[Result]
    count: int
    highlights: Sequence[str]
    groups: dict[str, dict[str, Group]]
    state: dict[str, list[bytes]]
    next: str | None


class _Token(NamedTuple):
    below: int = _FROM_THE_END
    offset: int = 0
    group: str | None = None
    member: int = 0


class _Found(NamedTuple):
    match: Match
    stored: StoredEvent
    rank: float


class MessageSearch:
    """Searches.

    Args:
        db: where rooms are stored.
        indexing: is brought up to date before each search.
        clock: for the age of events.
        ignored: whose messages a user does not want to see.
    """

    def __init__(self, db: Database, indexing: SearchIndexing, clock: Clock, ignored: IgnoredUsers) -> None:
        self._db = db
        self._indexing = indexing
        self._clock = clock
        self._ignored = ignored

    async def search(self, requester: Requester, request: SearchRequest) -> SearchPage:
        """A page of what fits.

        Raises:
            InvalidParam: the token is none of this server's.
        """
        token = _parse(request.token)
        wanted = list(dict.fromkeys(words(request.term)))[:MAX_TERMS]
        limit = DEFAULT_LIMIT if request.filter is None or request.filter.limit is None else request.filter.limit
        limit = max(1, min(limit, MAX_LIMIT))
        if not wanted:
            return SearchPage((), 0, (), {}, {}, None)
        await self._indexing.catch_up()
        now_ms = self._clock.now_ms()

        def step(tx: ReadTransaction) -> SearchPage:
            ignored = self._ignored.of_user(tx, requester.user_nid)
            search = _Search(tx, requester, request, wanted, ignored, now_ms)
            return search.page(token, limit)

        return await self._db.read(step)


class _Search:
    """One search, within one transaction."""

    def __init__(
        self,
        tx: ReadTransaction,
        requester: Requester,
        request: SearchRequest,
        wanted: Sequence[str],
        ignored: frozenset[int],
        now_ms: int,
    ) -> None:
        self._tx = tx
        self._requester = requester
        self._request = request
        self._wanted = wanted
        self._ignored = ignored
        self._now_ms = now_ms
        self._matcher = EventMatcher(request.filter)
        self._types = {
            names.find(tx, event_type) for event_type, key in KEYS.items() if not request.keys or key in request.keys
        }
        self._views: dict[int, RoomView | None] = {}

    def page(self, token: _Token, limit: int) -> SearchPage:
        pool, rest = self._pool(token)
        chosen = pool[token.offset : token.offset + limit]
        following = None
        if len(pool) > token.offset + limit:
            following = _token(token, token.below, token.offset + limit)
        elif rest is not None:
            following = _token(token, rest, 0)
        return SearchPage(
            [self._result(found) for found in chosen],
            len(pool),
            list(self._wanted),
            {key: self._groups(key, pool, token, chosen) for key in self._request.groups},
            self._states(chosen) if self._request.with_state else {},
            following,
        )

    # -- finding ---------------------------------------------------------------------------------

    def _pool(self, token: _Token) -> tuple[list[_Found], int | None]:
        """What fits and may be seen, in order, and where the next pool begins (None: there is none)."""
        found: list[_Found] = []
        below, examined, shown = token.below, 0, set[int]()
        while True:
            size = min(_BATCH, POOL - len(found))
            nids = search_index.matches(self._tx, self._wanted, below, size)
            if nids:
                below = nids[-1]
            matches = [
                each
                for each in search_index.placed(self._tx, nids)
                if self._is_in_group(each, token) and self._may_fit(each)
            ]
            stored = events.get_many(self._tx, [match.entry.nid for match in matches])
            for match in matches:
                fitting = self._fitting(match, stored[match.entry.nid])
                if fitting is not None and fitting.match.entry.nid not in shown:
                    shown.add(fitting.match.entry.nid)
                    found.append(fitting)
            examined += len(nids)
            if len(nids) < size:
                rest = None
                break
            if len(found) >= POOL or examined >= MAX_EXAMINED:
                rest = below
                break
        if self._request.recent_first:
            found.sort(key=lambda each: (-each.match.ts, -each.match.entry.nid))
        else:
            found.sort(key=lambda each: (-each.rank, -each.match.ts))
        return found, rest

    def _is_in_group(self, match: Match, token: _Token) -> bool:
        if token.group is None:
            return True
        return token.member == (match.room if token.group == "r" else match.entry.sender)

    def _may_fit(self, match: Match) -> bool:
        """Whether an event is to be looked at, as far as can be told without it."""
        view = self._view(match.room)
        return match.entry.type in self._types and view is not None and self._may_be_shown(view, match)

    def _fitting(self, match: Match, stored: StoredEvent) -> _Found | None:
        """The event that is shown for a match: of an edit the event that it replaces. None: nothing is."""
        view = self._view(match.room)
        if view is None:
            return None
        relation = relation_of(stored.event.content)
        if relation.is_edit and relation.parent_id is not None:
            original = self._placed(relation.parent_id)
            if original is None or original.room != match.room or not self._may_be_shown(view, original):
                return None
            edit, match, stored = stored, original, events.get(self._tx, original.entry.nid)
            if not is_valid_edit(stored.event, edit.event):
                return None
        # What somebody who has asked to be erased once said is found as little as it is shown.
        if not self._is_wanted(stored) or view.sight.event_for(stored) is not stored.event:
            return None
        text = words(self._text_now(view, stored) or "")
        if not set(self._wanted) <= set(text):
            return None  # it has been edited since
        return _Found(match, stored, score(self._wanted, text))

    def _placed(self, event_id: str) -> Match | None:
        nid = events.find(self._tx, event_id)
        found = [] if nid is None else search_index.placed(self._tx, [nid])
        return found[0] if found else None

    def _may_be_shown(self, view: RoomView, match: Match) -> bool:
        entry = match.entry
        if entry.place > view.newest or (entry.state_key is None and entry.sender in self._ignored):
            return False
        origin = names.text(self._tx, entry.type), names.text(self._tx, entry.sender)
        return self._matcher.matches_origin(*origin) and view.sight.sees_entry(entry)

    def _is_wanted(self, stored: StoredEvent) -> bool:
        event, matcher = stored.event, self._matcher
        if not matcher.matches(event.type, event.sender, event.content):
            return False
        return not matcher.asks_for_relations or matcher.matches_relations(
            relations.kinds_and_senders(self._tx, stored.room, stored.event_id)
        )

    def _text_now(self, view: RoomView, stored: StoredEvent) -> str | None:
        event = stored.event
        if stored.flags & Flag.PARENT:
            found = aggregations_for(self._tx, view, self._requester, self._ignored).of(stored)
            if found is not None and found.edit is not None:
                event = found.edit.event
        return searchable_text(event.type, event.content)

    def _view(self, room: int) -> RoomView | None:
        """A room as the user sees it; None: not at all, or it is encrypted, or not asked for."""
        if room not in self._views:
            room_id = rooms.room_id(self._tx, room)
            view: RoomView | None = None
            if self._matcher.includes_room(room_id):
                try:
                    view = open_view(self._tx, room_id, self._requester)
                except Forbidden:
                    view = None
            if view is not None and not self._is_or_was_member(view):
                view = None
            if view is not None and room_state.nid_at(self._tx, view.root, "m.room.encryption") is not None:
                view = None
            self._views[room] = view
        return self._views[room]

    def _is_or_was_member(self, view: RoomView) -> bool:
        """Rooms that are open to everybody are not searched for those who never were in them."""
        member = state_trie.get(
            self._tx, view.root, (names.find(self._tx, "m.room.member") or 0, self._requester.user_nid)
        )
        return view.is_member or member is not None

    # -- telling ---------------------------------------------------------------------------------

    def _result(self, found: _Found) -> Result:
        stored, view = found.stored, self._views[found.match.room]
        assert view is not None
        aggregations = aggregations_for(self._tx, view, self._requester, self._ignored)
        event = self._renderer(view).bundled_event(stored, aggregations)
        context = None
        if self._request.context is not None:
            context = self._context(view, stored, found.match.entry.place, self._request.context)
        return Result(event, found.rank, context)

    def _renderer(self, view: RoomView) -> EventRenderer:
        return EventRenderer(self._tx, self._now_ms, self._requester.device_nid, room_id=view.room.room_id)

    def _context(self, view: RoomView, stored: StoredEvent, place: int, wanted: ContextRequest) -> ResultContext:
        scan = TimelineScan(self._tx, view, EventMatcher(None), self._ignored)
        before = scan.backwards(place - 1, view.room.first_place - 1, max(0, min(wanted.before, MAX_CONTEXT)))
        after = scan.forwards(place, view.newest, max(0, min(wanted.after, MAX_CONTEXT)))
        aggregations = aggregations_for(self._tx, view, self._requester, self._ignored)
        renderer = self._renderer(view)
        return ResultContext(
            [renderer.bundled_event(each, aggregations) for each in before.events],
            [renderer.bundled_event(each, aggregations) for each in after.events],
            pagination_token(before.point),
            pagination_token(after.point),
            self._profiles([stored, *before.events, *after.events]) if wanted.with_profiles else None,
        )

    def _profiles(self, shown: Sequence[StoredEvent]) -> dict[str, dict[str, str]]:
        """What the senders were called at the first event."""
        root = shown[0].state
        member_type = names.find(self._tx, "m.room.member")
        if root is None or member_type is None:
            return {}
        keys = [(member_type, sender) for sender in {each.sender_nid for each in shown}]
        members = state_trie.get_many(self._tx, root, keys)
        profiles = {}
        for member in events.get_many(self._tx, list(members.values())).values():
            content = member.event.content
            profiles[member.event.state_key or ""] = {
                key: content[key] for key in ("displayname", "avatar_url") if isinstance(content.get(key), str)
            }
        return profiles

    def _groups(
        self, key: GroupKey, pool: Sequence[_Found], token: _Token, chosen: Sequence[_Found]
    ) -> dict[str, Group]:
        kind = "r" if key == "room_id" else "u"

        def member(found: _Found) -> int:
            return found.match.room if kind == "r" else found.match.entry.sender

        groups: dict[int, Group] = {}
        for found in chosen:
            group = groups.setdefault(member(found), Group(len(groups) + 1))
            group.results.append(found.stored.event_id)
        for nid, group in groups.items():
            given = sum(member(found) == nid for found in pool[: token.offset + len(chosen)])
            if sum(member(found) == nid for found in pool) > given:
                group.next = f"q{token.below}-{given}-{kind}{nid}"
        return {
            rooms.room_id(self._tx, nid) if kind == "r" else names.text(self._tx, nid): group
            for nid, group in groups.items()
        }

    def _states(self, chosen: Sequence[_Found]) -> dict[str, list[bytes]]:
        states: dict[str, list[bytes]] = {}
        for nid in dict.fromkeys(found.match.room for found in chosen):
            view = self._views[nid]
            assert view is not None
            renderer = self._renderer(view)
            if view.room.joined > MAX_STATE:
                found = list(room_state.without_members(self._tx, view.root))[:MAX_STATE]
                senders = {each.match.entry.sender for each in chosen if each.match.room == nid}
                member_type = names.find(self._tx, "m.room.member") or 0
                keys = [(member_type, sender) for sender in senders]
                members = state_trie.get_many(self._tx, view.root, keys)
                found += events.get_many(self._tx, list(members.values())).values()
            else:
                found = list(room_state.all_events(self._tx, view.root))
            states[view.room.room_id] = [renderer.state_event(stored) for stored in found]
        return states


def _token(token: _Token, below: int, offset: int) -> str:
    group = "" if token.group is None else f"-{token.group}{token.member}"
    return f"q{below}-{offset}{group}"


def _parse(token: str | None) -> _Token:
    if not token:
        return _Token()
    found = _TOKEN.fullmatch(token)
    if found is None or int(found[1]) > _FROM_THE_END:
        raise InvalidParam("The value of 'next_batch' is not a token that this server gave out.")
    return _Token(int(found[1]), int(found[2]), found[3], int(found[4] or 0))
