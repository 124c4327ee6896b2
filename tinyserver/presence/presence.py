"""Presence: who of those with whom one shares a room is online.

Nothing of it is ever stored. It is made to cost next to nothing:

- A change is noted under a moment, and goes out with the next answer that a device gets anyhow. Only those whom it may
  concern and who wait are woken, all changes of a while at once, and the more were woken, the longer that while.
- There is one timer for everything that happens by itself (idling, going offline, waking others), armed only while
  there is something to wait for. A device that syncs moves a time on, no timer.

spec: client-server-api#presence
"""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from tinyserver.accounts.requester import Requester
from tinyserver.bell import Bell
from tinyserver.presence.acquaintances import Acquaintances
from tinyserver.presence.remote_users import RemoteUser, RemoteUsers
from tinyserver.presence.state import LINGER, OFFLINE, ONLINE, STAYS_SET, Shown, UserPresence
from tinyserver.protocol.errors import Forbidden, InvalidParam, NotFound
from tinyserver.protocol.identifiers import domain_of, is_valid_user_id
from tinyserver.storage import accounts, memberships, names, profiles, server_stays
from tinyserver.storage.database import Commit, Database
from tinyserver.storage.transaction import Topic

MAX_STATUS_BYTES = 1024
MAX_USERS = 5_000
"""How many users are remembered; of those who are offline the longest unchanged are forgotten."""
MAX_SYNC_SECONDS = 300.0
LOOK_UPS_AT_ONCE = 200
"""Of how many users of other servers the rooms are looked up for one answer."""
LOOK_FOR_SILENT_EVERY = 300.0
"""Seconds between two looks for users of other servers of whom nothing is heard any more."""
SWEEP_EVERY = 2.0
"""Seconds between two looks at what has happened by itself."""
WAKE_EVERY = 1.0
"""Seconds between two times at which others are woken, at least ..."""
WAKE_EVERY_FOR_EACH = 0.03
"""... and for each who was woken: about a hundred times what it costs to answer one."""


class Presence:
    """The presence of the local users, and of others as far as their servers tell. Lives on the event loop.

    Args:
        db: where users and memberships are.
        bell: rung for those who may see a change; tells who sends messages.
        enabled: whether there is presence at all; else everybody is offline.
        clock: seconds, monotonic.
    """

    def __init__(
        self, db: Database, bell: Bell, *, enabled: bool = True, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._db = db
        self._bell = bell
        self._enabled = enabled
        self._clock = clock
        self._acquaintances = Acquaintances(db, bell)
        self._users: dict[int, UserPresence] = {}
        """In the order of their last change."""
        self._remote = RemoteUsers()
        self.on_change: list[Callable[[int], None]] = []
        """Called with the number of a local user whose presence changed."""
        self.on_remote_change: list[Callable[[int], None]] = []
        """Called with the number of a user of another server whose presence changed."""
        self._newest = 0
        """The moment of the newest change."""
        self._to_wake: set[int] = set()
        """Users whose change nobody was woken for yet."""
        self._may_wake_at = 0.0
        self._next_sweep = math.inf
        self._timer: asyncio.TimerHandle | None = None
        self._timer_at = math.inf
        if enabled:
            bell.subscribe(self._on_commit)

    # -- what clients do -------------------------------------------------------------------------

    def get(self, requester: Requester, user_id: str) -> dict[str, object]:
        """What a user's presence is: the body of `GET /presence/{userId}/status`.

        Raises:
            InvalidParam: that is no user ID.
            NotFound: there is no such user here.
            Forbidden: the requester shares no room with them.
        """
        if not is_valid_user_id(user_id):
            raise InvalidParam("That is not a user ID")
        account = self._db.glance(lambda tx: accounts.find(tx, user_id))
        if account is None:
            content = self._of_remote_user(requester.user_nid, user_id)
            if content is not None:
                return content
            raise NotFound("There is no presence of this user")
        if not self._acquaintances.share_a_room(requester.user_nid, account.nid):
            raise Forbidden("You are not allowed to see their presence")
        known = self._users.get(account.nid)
        if known is None:
            return {"presence": OFFLINE}
        now = self._clock()
        self._update(account.nid, known, now)
        return known.content(now)

    def put(self, requester: Requester, user_id: str, presence: str, status_msg: str | None) -> None:
        """Set the requester's own presence.

        Args:
            presence: `online`, `unavailable` or `offline`.

        Raises:
            Forbidden: somebody else's.
            InvalidParam: too long a status message.
        """
        if user_id != requester.user_id:
            raise Forbidden("You cannot set the presence of another user")
        if status_msg is not None and len(status_msg.encode("utf-8", "surrogatepass")) > MAX_STATUS_BYTES:
            raise InvalidParam(f"status_msg may have {MAX_STATUS_BYTES} bytes")
        if not self._enabled:
            return
        now = self._clock()
        user = self._user(requester.user_nid)
        user.status_msg = status_msg or None
        user.chosen = None if presence == ONLINE else presence
        if presence != OFFLINE:
            self._extend(user, requester.device_nid, presence, now + STAYS_SET)
        if presence == ONLINE:
            user.last_active = now
        self._update(requester.user_nid, user, now)

    def active(self, user_nid: int) -> None:
        """The user has done something: typed, read, sent."""
        user = self._users.get(user_nid)
        if user is None:
            return  # nobody without a device is online
        if user.chosen != OFFLINE:
            user.chosen = None
        now = user.last_active = self._clock()
        for device, (state, until) in user.devices.items():
            if state != ONLINE:
                user.devices[device] = (ONLINE, until)
        self._update(user_nid, user, now)

    def synced(self, user: int, device: int | None, state: str, seconds: float = 0.0) -> None:
        """A device of the user has called sync.

        Args:
            user: nid.
            state: `online`, `unavailable` or `offline` (the call says nothing about presence).
            seconds: for how long the call may wait.
        """
        if not self._enabled or state == OFFLINE:
            return
        now = self._clock()
        known = self._user(user)
        if known.shown.presence == OFFLINE and state == ONLINE:
            known.last_active = now  # to come online is to do something
        known.devices[device] = (state, now + min(seconds, MAX_SYNC_SECONDS) + LINGER)
        self._update(user, known, now)

    def profile_changed(self, user: int, displayname: str | None, avatar_url: str | None) -> None:
        """The profile of a local user (a nid) says this now.

        spec: client-server-api#events-on-change-of-profile-information
        """
        if self._enabled:
            known = self._user(user)
            known.profile = (displayname, avatar_url)
            self._move_up(user, known, worth_waking=True)

    # -- other servers ---------------------------------------------------------------------------

    def receive(self, user: int, user_id: str, shown: Shown, active_ago: float) -> None:
        """What another server says of one of its users; nothing of it is kept unless the user shares a room with
        somebody here.

        Args:
            active_ago: seconds since the user last did something.
        """
        if not self._enabled:
            return
        now = self._clock()
        known = self._remote.get(user)
        rooms = None if known is None else known.rooms
        if rooms is None:
            rooms = self._rooms_of(user, user_id)
        if not rooms:
            return
        if known is not None and known.shown == shown:
            known.rooms, known.heard, known.last_active = rooms, now, now - active_ago
            return
        self._newest = self._bell.next_moment()
        self._remote.put(user, RemoteUser(user_id, rooms, shown, now - active_ago, now, self._newest))
        before = Shown() if known is None else known.shown
        if (shown.presence, shown.status_msg) != (before.presence, before.status_msg):
            self._to_wake.add(user)
            for tell in self.on_remote_change:
                tell(user)
        self._next_sweep = min(self._next_sweep, now + LOOK_FOR_SILENT_EVERY)
        self._arm()

    def told_to_others(self, user: int) -> dict[str, object] | None:
        """What other servers are told of a local user: an entry of `push`; None: nothing is known."""
        known = self._users.get(user)
        if known is None:
            return None
        return {"last_active_ago": 0, **known.content(self._clock()), "user_id": known.user_id}

    def event_of(self, user: int) -> dict[str, object] | None:
        """The `m.presence` event of a user of any server; None: nothing is known."""
        now = self._clock()
        local, remote = self._users.get(user), self._remote.get(user)
        if local is not None:
            return local.event(now)
        if remote is not None:
            return {"type": "m.presence", "sender": remote.user_id, "content": remote.content(now)}
        return None

    def local_users_there(self) -> list[int]:
        """The local users who are not offline."""
        return [user for user, known in self._users.items() if known.shown.presence != OFFLINE]

    def _of_remote_user(self, user: int, user_id: str) -> dict[str, object] | None:
        nid = self._db.glance(lambda tx: names.find(tx, user_id))
        if nid is None or not self._db.glance(lambda tx: memberships.share_a_room(tx, user, nid)):
            return None
        known = self._remote.get(nid)
        return {"presence": OFFLINE} if known is None else known.content(self._clock())

    def _sees(self, user: int, other: int) -> bool:
        """Whether a local user shares a room with another user."""
        known = self._remote.get(other)
        if known is None:
            return self._acquaintances.share_a_room(user, other)
        return known.rooms is not None and not self._acquaintances.rooms_of(user).isdisjoint(known.rooms)

    # -- what sync asks --------------------------------------------------------------------------

    def changed_since(self, user: int, moment: int) -> Sequence[Mapping[str, Any]]:
        """`m.presence` events of those whom a user may see (themselves included) and whose presence changed after a
        moment; from 0 all who are not offline."""
        if self._newest <= moment:
            return ()
        own = self._users.get(user)
        if own is not None and moment < own.sees_anew:
            moment = 0
        now = self._clock()
        found: list[Mapping[str, Any]] = []
        for nid in reversed(self._users):
            known = self._users[nid]
            if known.moment <= moment:
                break
            if moment == 0 and known.shown.presence == OFFLINE:
                continue
            if self._acquaintances.share_a_room(user, nid):
                found.append(known.event(now))
        found += self._remote_changes(user, moment, now)
        return found

    def _remote_changes(self, user: int, moment: int, now: float) -> list[Mapping[str, Any]]:
        found: list[Mapping[str, Any]] = []
        look_ups = LOOK_UPS_AT_ONCE
        for nid, known in self._remote.newest_first():
            if known.moment <= moment:
                break
            if moment == 0 and known.shown.presence == OFFLINE:
                continue
            if known.rooms is None and look_ups:
                look_ups -= 1
                known.rooms = self._rooms_of(nid, known.user_id)
            if self._sees(user, nid):
                found.append({"type": "m.presence", "sender": known.user_id, "content": known.content(now)})
        return found

    def _rooms_of(self, user: int, user_id: str) -> frozenset[int]:
        """The rooms that a user of another server is in."""
        return self._db.glance(lambda tx: frozenset(server_stays.rooms_with(tx, domain_of(user_id), user)))

    def close(self) -> None:
        """Stop the timer."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer, self._timer_at = None, math.inf

    # -- changes ---------------------------------------------------------------------------------

    def _user(self, user: int) -> UserPresence:
        known = self._users.get(user)
        if known is None:
            known = self._db.glance(
                lambda tx: UserPresence(names.text(tx, user), profile=profiles.shown_in_rooms(tx, user))
            )
            if len(self._users) >= MAX_USERS:
                self._forget_one()
            self._users[user] = known
        return known

    def _forget_one(self) -> None:
        offline = (user for user, known in self._users.items() if known.shown.presence == OFFLINE)
        forgotten = next(offline, None)
        if forgotten is None:
            forgotten = next(iter(self._users))
        del self._users[forgotten]
        self._to_wake.discard(forgotten)

    @staticmethod
    def _extend(user: UserPresence, device: int | None, state: str, until: float) -> None:
        _, before = user.devices.get(device, (state, until))
        user.devices[device] = (state, max(until, before))

    def _update(self, user: int, known: UserPresence, now: float) -> None:
        """Note it if what others see has changed; see to it that the next change by itself is noticed."""
        shown = known.at(now)
        if shown != known.shown:
            self._note(user, known, shown)
        when = known.next_change(now)
        if when < self._next_sweep:
            self._next_sweep = max(when, now + SWEEP_EVERY)
            self._arm()

    def _note(self, user: int, known: UserPresence, shown: Shown) -> None:
        worth_waking = (shown.presence, shown.status_msg) != (known.shown.presence, known.shown.status_msg)
        known.shown = shown
        self._move_up(user, known, worth_waking=worth_waking)
        for tell in self.on_change:
            tell(user)

    def _move_up(self, user: int, known: UserPresence, *, worth_waking: bool) -> None:
        known.moment = self._newest = self._bell.next_moment()
        del self._users[user]
        self._users[user] = known
        if worth_waking:
            self._to_wake.add(user)
            self._arm()

    def _wake_others(self, now: float) -> None:
        """Ring the bell for the users who are connected and may see one of the changes."""
        changed, self._to_wake = self._to_wake, set()
        concerned = [
            user
            for user, known in self._users.items()
            if known.devices and any(self._sees(user, other) for other in changed)
        ]
        self._bell.ring_users(concerned)
        self._may_wake_at = now + max(WAKE_EVERY, WAKE_EVERY_FOR_EACH * len(concerned))

    def _note_move(self, user_id: str) -> None:
        """A user has come into a room or left one."""
        nid = self._db.glance(lambda tx: names.find(tx, user_id))
        known = None if nid is None else self._remote.get(nid)
        if nid is None or known is None:
            return
        known.rooms = self._rooms_of(nid, user_id)
        self._newest = known.moment = self._bell.next_moment()
        self._remote.put(nid, known)

    # -- time ------------------------------------------------------------------------------------

    def _arm(self) -> None:
        """Let the timer go off when something is due next."""
        due = min(self._next_sweep, self._may_wake_at if self._to_wake else math.inf)
        if due >= self._timer_at or due == math.inf:
            return
        if self._timer is not None:
            self._timer.cancel()
        self._timer_at = due
        self._timer = asyncio.get_running_loop().call_later(max(due - self._clock(), 0.0), self._on_time)

    def _on_time(self) -> None:
        self._timer, self._timer_at = None, math.inf
        now = self._clock()
        if now >= self._next_sweep:
            self._next_sweep = math.inf
            for user, known in list(self._users.items()):
                if known.devices:
                    known.drop_gone_devices(now)
                    self._update(user, known, now)
            self._note_silent(now)
        if self._to_wake and now >= self._may_wake_at:
            self._wake_others(now)
        self._arm()

    def _note_silent(self, now: float) -> None:
        """Users of whom nothing was heard for long are offline."""
        for user in self._remote.silent(now):
            known = self._remote.get(user)
            assert known is not None
            self._newest = known.moment = self._bell.next_moment()
            known.shown = Shown()
            self._remote.put(user, known)
            self._to_wake.add(user)
        if self._remote.any_there():
            self._next_sweep = min(self._next_sweep, now + LOOK_FOR_SILENT_EVERY)

    def _on_commit(self, commit: Commit) -> None:
        """Who sends an event is active; who joins a room sees others in it and is seen by them.

        The newest events are in memory; one that is not is passed over.
        """
        for change in commit.changes:
            if change.topic is Topic.TIMELINE:
                stored = self._db.caches.events.get(change.position)
                if stored is not None and stored.device is not None:
                    self.active(stored.sender_nid)
                if stored is not None and stored.event.type == "m.room.member" and stored.event.state_key:
                    self._note_move(stored.event.state_key)
            elif change.topic is Topic.MEMBERSHIP:
                self._remote.forget_rooms()
                known = self._users.get(change.nid)
                if known is not None and known.devices:
                    self._note(change.nid, known, known.shown)
                    known.sees_anew = known.moment
