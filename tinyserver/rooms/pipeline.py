"""The one path of an event, local or remote.

    parse and check size/format -> check hash and signatures -> fetch what is missing -> authorise against its auth
    events -> state before it -> authorise against that state -> soft-fail check against the current state
    -> ask the room's policy server -> append

Events made here start at "state before it": what comes before holds by construction. All steps from authorisation on
run inside one write step, so a room's events are handled one at a time, and events that arrive together are
stored by one commit.

What the pipeline needs from other servers (keys, missing events) it asks through the protocols `Signatures` and
`MissingEvents`; without federation, events of other servers are refused for want of a key.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from enum import Enum
from functools import partial
from time import monotonic
from typing import Any

from tinyserver.clock import Clock
from tinyserver.protocol.auth_rules import AuthError, auth_keys_for, check_auth
from tinyserver.protocol.auth_state import CREATE
from tinyserver.protocol.canonical_json import CanonicalJsonError
from tinyserver.protocol.errors import BadJson, MatrixError, NotFound, RoomInUse
from tinyserver.protocol.events import Event
from tinyserver.protocol.room_versions import RoomVersion
from tinyserver.protocol.signing import SignatureError
from tinyserver.rooms import partial_state, sticky
from tinyserver.rooms.ancestors import MissingAncestors, ancestors_of, told_root, told_state
from tinyserver.rooms.append import Admission, Appender
from tinyserver.rooms.asked_elsewhere import Ancestor, MissingEvents, Signatures
from tinyserver.rooms.authorising import auth_state, authorise, is_allowed_by_auth_events
from tinyserver.rooms.drafts import EventDraft, EventSigner
from tinyserver.rooms.parents import Parents, parents_for
from tinyserver.rooms.policy import PolicyCheck
from tinyserver.rooms.received_pdus import parse_all
from tinyserver.rooms.resolution import resolve_roots
from tinyserver.rooms.suspension import check_suspension
from tinyserver.storage import events, room_state, rooms, state_trie
from tinyserver.storage.database import Database
from tinyserver.storage.rooms import RoomRow
from tinyserver.storage.stored_event import Flag, StoredEvent
from tinyserver.storage.transaction import ReadTransaction, WriteTransaction

PARSED_ON_LOOP = 8
"""More events than this are parsed and hashed on a thread: each takes about 100 us."""
STEP_SECONDS = 0.03
"""So long a step may take that admits several events: others wait for the writer."""
MAX_RECONSIDERED = 20
"""So many rejected events are judged again for one that depends on them."""


class Outcome(Enum):
    """What became of an event from outside."""

    ACCEPTED = "accepted"
    SOFT_FAILED = "soft-failed"
    REJECTED = "rejected"
    KNOWN = "known"


@dataclass(frozen=True, slots=True)
class Received:
    """The end of an event's path: what became of it, why (a sentence, or None) and as what it is stored."""

    outcome: Outcome
    stored: StoredEvent
    reason: str | None = None


class EventPipeline:
    """Sends local events and receives those of others.

    Args:
        db: where rooms are stored.
        signer: makes local PDUs.
        appender: the last step.
        clock: the time for new events.
        signatures, missing_events: federation, where it is on.
        policies: what the policy servers of rooms say.
    """

    def __init__(
        self,
        db: Database,
        signer: EventSigner,
        appender: Appender,
        clock: Clock,
        signatures: Signatures,
        missing_events: MissingEvents,
        policies: PolicyCheck,
    ) -> None:
        self._db = db
        self._signer = signer
        self._appender = appender
        self._clock = clock
        self._signatures = signatures
        self._missing_events = missing_events
        self._policies = policies

    # -- local events ----------------------------------------------------------------------------

    def create_room(
        self, tx: WriteTransaction, version: RoomVersion, draft: EventDraft, room_id: str | None
    ) -> RoomRow:
        """Make a room of its create event.

        Args:
            draft: the `m.room.create` event.
            room_id: the room's ID, or None where the room version takes it from the create event.

        Raises:
            BadJson, TooLarge: the content cannot be stored as an event.
            AuthError: the create event breaks the room version's rules.
            RoomInUse: there is a room with that ID.
        """
        if room_id is not None and rooms.find(tx, room_id) is not None:
            raise RoomInUse(f"There is a room with the ID {room_id} already")
        event = self._make(draft, version, room_id, (), ())
        while rooms.find(tx, event.room_id) is not None:
            # Two rooms of one creator that are alike to the millisecond would be one room.
            draft = replace(draft, origin_server_ts=event.origin_server_ts + 1)
            event = self._make(draft, version, room_id, (), ())
        check_auth(event, {})
        room = rooms.create(tx, event.room_id, version)
        self._appender.append(tx, room, Admission(event, state_trie.EMPTY, ()))
        return rooms.get(tx, room.nid)

    def send(self, tx: WriteTransaction, room_nid: int, draft: EventDraft) -> StoredEvent:
        """Send a local user's event into a room.

        A draft whose transaction ID the device has used before, in this room for this type, gives back the event of
        then.

        Args:
            room_nid: the room, which has a create event.

        Raises:
            AuthError (a Forbidden): the room's rules refuse it.
            UserSuspended: the sender's account is suspended.
            BadJson, TooLarge: it cannot be an event of this room version.
            LimitExceeded: it depends on members of whom nothing is known yet.
            MatrixError: the room's policy server does not want it, or does not answer.
            FromOutside: the policy server has to be asked.
        """
        known = self.sent_before(tx, room_nid, draft)
        if known is not None:
            return known
        room = rooms.get(tx, room_nid)
        approved = self._policies.approved(tx, room, draft)
        if approved is not None:
            return self._send_approved(tx, room, draft, approved)
        event, parents = self._prepare(tx, room, draft)
        self._policies.check_own(tx, room, draft, event)
        flags = Flag.NONE if draft.origin_server_ts is None else Flag.DATED
        auth = tuple(sorted(stored.nid for stored in parents.auth_events))
        before = parents.state_before(tx, room)
        admission = Admission(event, before, auth, flags, device=draft.device, txn_id=draft.txn_id)
        return self._append(tx, room, admission)

    def _append(self, tx: WriteTransaction, room: RoomRow, admission: Admission) -> StoredEvent:
        now_ms = self._clock.now_ms()
        stored = self._appender.append(tx, room, admission)
        sticky.note(tx, stored, now_ms, self._signer.server_name)
        for held in sticky.held_back_of(tx, stored, now_ms):
            self._release(tx, rooms.get(tx, room.nid), held)
        return stored

    def _release(self, tx: WriteTransaction, room: RoomRow, held: StoredEvent) -> None:
        """Tell of a sticky event that was soft-failed, if the current state allows it now."""
        with suppress(AuthError):
            check_auth(held.event, auth_state(tx, room.state, held.event))
            _, objection = self._policies.judge(tx, room, held.event)
            if objection is None:
                sticky.release(tx, held)

    def prepare(self, tx: WriteTransaction, room_nid: int, draft: EventDraft) -> Event:
        """Make the event of a draft without sending it: another server has to sign it before it is admitted.

        Raises as `send` does.
        """
        room = rooms.get(tx, room_nid)
        event = self._policies.approved(tx, room, draft)
        if event is None:
            event, _ = self._prepare(tx, room, draft)
            self._policies.check_own(tx, room, draft, event)
        return event

    def _send_approved(self, tx: WriteTransaction, room: RoomRow, draft: EventDraft, event: Event) -> StoredEvent:
        """Send an event that the room's policy server has signed; the room may have gone on since it was made."""
        check_suspension(tx, draft)
        received = self.admit(tx, room.nid, event, draft=draft)
        if received.outcome in (Outcome.REJECTED, Outcome.SOFT_FAILED):
            raise AuthError(received.reason or "The room does not allow this any more")
        return received.stored

    def _prepare(self, tx: WriteTransaction, room: RoomRow, draft: EventDraft) -> tuple[Event, Parents]:
        """The event of a draft, allowed by the current state and by that before it."""
        check_suspension(tx, draft)
        keys = auth_keys_for(room.version, draft.type, draft.sender, draft.state_key, draft.content)
        partial_state.check_members_known(tx, room, keys)
        parents = parents_for(tx, room, keys)
        event = self._make(draft, room.version, room.room_id, parents.stored, parents.auth_events)
        parents.check(event)
        return event, parents

    @staticmethod
    def sent_before(tx: ReadTransaction, room_nid: int, draft: EventDraft) -> StoredEvent | None:
        """The event that the same request has made before, by its transaction ID, or None.

        Redactions of different events are different requests, whatever their transaction IDs.

        spec: client-server-api#transaction-identifiers
        """
        if draft.device is None or draft.txn_id is None:
            return None
        sent = events.of_transaction(tx, draft.device, draft.txn_id, room_nid, draft.type)
        return next((stored for stored in sent if draft.redacts in (None, stored.event.redacts)), None)

    def _make(
        self,
        draft: EventDraft,
        version: RoomVersion,
        room_id: str | None,
        parents: Iterable[StoredEvent],
        auth_events: Iterable[StoredEvent],
    ) -> Event:
        try:
            return self._signer.make(
                draft,
                version,
                room_id=room_id,
                parents=parents,
                auth_events=auth_events,
                now_ms=self._clock.now_ms(),
            )
        except CanonicalJsonError as error:
            raise BadJson(f"The content cannot be sent in a room of version {version.identifier}: {error}") from error

    # -- events from other servers ---------------------------------------------------------------

    async def receive(self, origin: str, room_id: str, pdu: Mapping[str, Any]) -> Received:
        """Take an event that another server sent us in a room that we are in.

        Args:
            origin: the server that handed it over (not necessarily the sender's).
            pdu: as it came.

        Raises:
            NotFound: we know nothing of the room.
            BadJson, TooLarge: it is no PDU of the room's version.
            SignatureError: a signature that it needs is missing or wrong.
            MissingAncestors: not all of its ancestors or auth events could be had.
        """
        room = self._db.glance(lambda tx: rooms.find(tx, room_id))
        if room is None or not room.state:
            raise NotFound(f"This server is not in the room {room_id}")
        (checked,) = await self.check_many(room, [pdu])
        if isinstance(checked, Exception):
            raise checked
        return await self.complete(origin, room, checked)

    async def check_many(self, room: RoomRow, pdus: Sequence[Any]) -> list[Event | MatrixError | SignatureError]:
        """Check what needs no knowledge of the room: format, sizes, signatures, hashes.

        Args:
            room: the room that all of them must belong to.
            pdus: as they came.

        Returns:
            For each the event (redacted where its hash does not fit, for the signature covers that much), or what is
            wrong with it.
        """
        if len(pdus) <= PARSED_ON_LOOP:
            checked = parse_all(room, pdus)
        else:
            checked = await asyncio.to_thread(parse_all, room, pdus)
        parsed = [event for event in checked if isinstance(event, Event)]
        errors = iter(await self._signatures.check_many([event.pdu for event in parsed], room.version))
        return [(next(errors) or each) if isinstance(each, Event) else each for each in checked]

    async def complete(self, origin: str, room: RoomRow, event: Event) -> Received:
        """Admit a checked event, with what it lacks from other servers.

        Raises:
            MissingAncestors: not all of its ancestors or auth events could be had.
        """
        try:
            return await self._db.write(lambda tx: self.admit(tx, room.nid, event))
        except MissingAncestors as missing:
            found = await self._missing_events.fetch(origin, room, event, missing.event_ids)
        done = 0
        while done < len(found):
            some = partial(self._admit_ancestors, room_nid=room.nid, ancestors=found[done:], event_id=event.event_id)
            count, received = await self._db.write(some)
            if received is not None:
                return received
            done += count
        return await self._db.write(lambda tx: self.admit(tx, room.nid, event))

    def _admit_ancestors(
        self, tx: WriteTransaction, room_nid: int, ancestors: Sequence[Ancestor], event_id: str
    ) -> tuple[int, Received | None]:
        """Admit as many ancestors as there is time for in one step, up to the event itself: how many these were, and
        what became of the event if it was one of them."""
        begun, count = monotonic(), 0
        while count < len(ancestors) and (not count or monotonic() < begun + STEP_SECONDS):
            ancestor = ancestors[count]
            count += 1
            with suppress(MissingAncestors):  # the event itself will miss it
                received = self.admit(tx, room_nid, ancestor.event, ancestor.state, assumed=ancestor.assumed)
                if ancestor.event.event_id == event_id:
                    return count, received
        return count, None

    def admit(
        self,
        tx: WriteTransaction,
        room_nid: int,
        event: Event,
        state: Sequence[int] | None = None,
        *,
        assumed: bool = False,
        draft: EventDraft | None = None,
        anew: bool = True,
        looked_at: set[int] | None = None,
    ) -> Received:
        """Authorise a checked event whose ancestors are here, and append it.

        Args:
            state: what another server says that the state before the event was (nids of stored events); parents may
                be missing then. It is resolved with the states after those parents that are here.
            assumed: the same, with the state as it was told when this server came into the room; as long as more is
                not known.
            draft: what it was made of, if it was made here.
            anew: judge an event again that was rejected: by the state that a server told, or for the sake of such an
                event. With its parents here, or told by another server, it may be acceptable after all.
            looked_at: rejected events that have been judged again already.

        Raises:
            MissingAncestors: some are not here.
            FromOutside: the room's policy server has to be asked.
        """
        known = events.by_id(tx, event.event_id)
        judged = None if known is None or known.flags & Flag.OUTLIER else known
        room = rooms.get(tx, room_nid)
        if judged is not None and (not judged.rejected or not anew or room.is_partial):
            return Received(Outcome.KNOWN, judged)
        told = told_root(tx, room, state, assumed=assumed)
        auth, parents = ancestors_of(tx, room_nid, event, is_told=told is not None)
        looked_at = set() if looked_at is None else looked_at
        rejected = [stored for stored in (*auth, *parents) if stored.rejected and stored.nid not in looked_at]
        if rejected and not room.is_partial and self._reconsider(tx, room, rejected, looked_at):
            return self.admit(tx, room_nid, event, state, assumed=assumed, draft=draft, looked_at=looked_at)
        roots = [parent.state for parent in parents if parent.state is not None]
        roots += () if told is None else (told,)
        state_before = resolve_roots(tx, room.version, roots) if roots else state_trie.EMPTY
        if room.is_partial:
            state_before = partial_state.supplemented(tx, state_before, auth)
        admission = Admission(
            event,
            state_before,
            tuple(sorted(stored.nid for stored in auth)),
            Flag.DATED if draft is not None and draft.origin_server_ts is not None else Flag.NONE,
            device=None if draft is None else draft.device,
            txn_id=None if draft is None else draft.txn_id,
            outlier=None if known is None else known.nid,
            after_gap=state is not None,
        )
        return self._judge(tx, room, admission, auth, judged)

    def _judge(
        self,
        tx: WriteTransaction,
        room: RoomRow,
        admission: Admission,
        auth: Sequence[StoredEvent],
        judged: StoredEvent | None,
    ) -> Received:
        """Append an event as what it deserves to be, unless it was `judged` before and deserves no better."""
        event, state_before = admission.event, admission.state_before
        try:
            before = auth_state(tx, state_before, event)
            authorise(room, event, auth, before)
            check_auth(event, before)
        except AuthError as error:
            if judged is not None:
                return Received(Outcome.KNOWN, judged)
            return self._append_as(tx, room, admission, Flag.REJECTED, error.message)
        try:
            if room.state != state_before and not room.is_partial:
                check_auth(event, auth_state(tx, room.state, event))
        except AuthError as error:
            received = self._append_as(tx, room, admission, Flag.SOFT_FAILED, error.message)
            sticky.hold_back(tx, received.stored, self._clock.now_ms())
            return received
        event, objection = self._policies.judge(tx, room, event)
        if objection is not None:
            return self._append_as(tx, room, admission, Flag.SOFT_FAILED, objection)
        return Received(Outcome.ACCEPTED, self._append(tx, room, replace(admission, event=event)))

    def _reconsider(
        self, tx: WriteTransaction, room: RoomRow, rejected: Iterable[StoredEvent], looked_at: set[int]
    ) -> bool:
        """Judge events again that were rejected and on which another one depends: whether any is accepted now."""
        is_any_accepted = False
        for stored in rejected:
            if stored.nid in looked_at or len(looked_at) >= MAX_RECONSIDERED:
                continue
            looked_at.add(stored.nid)
            if stored.flags & Flag.OUTLIER:
                is_any_accepted |= self._reconsider_outlier(tx, room, stored, looked_at)
                continue
            with suppress(MissingAncestors):
                outcome = self.admit(tx, room.nid, stored.event, looked_at=looked_at).outcome
                is_any_accepted |= outcome is not Outcome.KNOWN
        return is_any_accepted

    def _reconsider_outlier(
        self, tx: WriteTransaction, room: RoomRow, stored: StoredEvent, looked_at: set[int]
    ) -> bool:
        auth = events.get_many(tx, stored.auth)
        if self._reconsider(tx, room, [each for each in auth.values() if each.rejected], looked_at):
            auth = events.get_many(tx, stored.auth)
        create = room_state.auth_state(tx, room.state, ()).get(CREATE)
        if not is_allowed_by_auth_events(room, stored.event, list(auth.values()), create):
            return False
        events.set_flags(tx, stored.nid, stored.flags & ~Flag.REJECTED, stored.place, stored.state)
        return True

    def enter(
        self, tx: WriteTransaction, room_nid: int, join: Event, state: Sequence[int], *, is_partial: bool = False
    ) -> StoredEvent:
        """Come (back) into a room with the join of a local user that a server in the room has accepted.

        Args:
            state: nids of the state before the join, stored as outliers or otherwise known.
            is_partial: not all members are in it.

        Raises:
            AuthError: the room's rules refuse the join.
            MissingAncestors: the state lacks something that the join names.
        """
        room = rooms.get(tx, room_nid)
        auth = events.find_many(tx, join.auth_event_ids)
        if len(auth) < len(set(join.auth_event_ids)):
            raise MissingAncestors([event_id for event_id in join.auth_event_ids if event_id not in auth])
        root = told_state(tx, room_nid, state)
        if is_partial:
            root = partial_state.supplemented(tx, root, events.get_many(tx, set(auth.values())).values())
        before = auth_state(tx, root, join)
        authorise(room, join, list(events.get_many(tx, set(auth.values())).values()), before)
        check_auth(join, before)
        known = events.by_id(tx, join.event_id)
        if known is not None and not known.flags & Flag.OUTLIER:
            return known
        outlier = None if known is None else known.nid
        admission = Admission(
            join, root, tuple(sorted(auth.values())), outlier=outlier, begins_anew=True, after_gap=bool(room.last_event)
        )
        return self._appender.append(tx, room, admission)

    def _append_as(
        self, tx: WriteTransaction, room: RoomRow, admission: Admission, flag: Flag, reason: str
    ) -> Received:
        marked = replace(admission, flags=flag)
        outcome = Outcome.REJECTED if flag is Flag.REJECTED else Outcome.SOFT_FAILED
        return Received(outcome, self._appender.append(tx, room, marked), reason)
