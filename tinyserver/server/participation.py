"""Taking part in rooms of other servers: what is fetched from them, and what they send."""

from __future__ import annotations

import time

from tinyserver.api.federation.invites import InvitesApi
from tinyserver.api.federation.transactions import TransactionsApi
from tinyserver.federation.inbox import Inbox
from tinyserver.federation.participation.backfill import Backfill
from tinyserver.federation.participation.comparison import RoomComparison
from tinyserver.federation.participation.event_budget import EventBudget
from tinyserver.federation.participation.invites import InboundInvites, OutboundInvites
from tinyserver.federation.participation.joining import RemoteJoin
from tinyserver.federation.participation.member_lists import MemberLists
from tinyserver.federation.participation.member_requests import MemberRequests
from tinyserver.federation.participation.missing_events import MissingEventsFetcher
from tinyserver.federation.participation.moments import RemoteMoments
from tinyserver.federation.participation.queries import RemoteQueries
from tinyserver.federation.participation.rooms import FederatedRooms
from tinyserver.federation.participation.states import RemoteStates
from tinyserver.federation.participation.withdrawals import Withdrawals
from tinyserver.federation.transactions import InboundTransactions
from tinyserver.rooms.append import Appender
from tinyserver.rooms.completion import Completion
from tinyserver.rooms.many_ends import ManyEnds
from tinyserver.rooms.membership import RoomMembership
from tinyserver.rooms.pipeline import EventPipeline
from tinyserver.server.appservices import AppserviceParts
from tinyserver.server.core import Core
from tinyserver.server.transport import Transport


class Fetching:
    """What rooms ask of other servers; built before the path of an event, which asks for missing events."""

    def __init__(self, core: Core, transport: Transport, appender: Appender) -> None:
        client, key_ring = transport.client, transport.key_ring
        self.event_budget = EventBudget()
        self.states = RemoteStates(core.db, client, key_ring, core.data.path, self.event_budget)
        self.missing_events = MissingEventsFetcher(core.db, client, key_ring, self.states)
        self.backfill: Backfill | None = None
        self.moments: RemoteMoments | None = None
        self.queries: RemoteQueries | None = None
        if core.federates:
            self.backfill = Backfill(
                core.db,
                client,
                key_ring,
                self.states,
                self.missing_events,
                appender,
                core.partial_rooms,
                core.server_name,
            )
            self.moments = RemoteMoments(core.db, client, self.backfill, core.server_name)
            self.queries = RemoteQueries(client, time.monotonic)

    async def stop(self) -> None:
        """End what is under way."""
        if self.backfill is not None:
            await self.backfill.close()


class Participation:
    """What comes from other servers, and joining through them; built after the path of an event, which it uses."""

    def __init__(
        self,
        core: Core,
        transport: Transport,
        fetching: Fetching,
        appender: Appender,
        pipeline: EventPipeline,
        appservices: AppserviceParts,
    ) -> None:
        self._appservices = appservices
        self._core = core
        self._transport = transport
        self._pipeline = pipeline
        self._queries = fetching.queries
        self._event_budget = fetching.event_budget
        completion = Completion(appender, core.partial_rooms)
        self.member_lists = MemberLists(core.db, fetching.states, core.partial_rooms, completion)
        self.many_ends = ManyEnds(core.db, pipeline)
        self.inbox = Inbox(core.db, pipeline, fetching.missing_events, self.many_ends, core.clock, core.retry_pause_ms)
        self.comparison = RoomComparison(
            core.db,
            transport.client,
            fetching.missing_events,
            self.inbox,
            fetching.backfill,
            core.clock,
            core.server_name,
            time.monotonic,
        )
        withdrawals = Withdrawals(core.db, transport.key_ring, appservices.followers)
        self.transactions = InboundTransactions(core.db, self.inbox, withdrawals)
        if core.federates:
            core.router.add(TransactionsApi(self.transactions))

    def membership(self) -> RoomMembership:
        """Who is in which room, on this server and, with federation, elsewhere."""
        core, client, key_ring, name = (
            self._core,
            self._transport.client,
            self._transport.key_ring,
            self._core.server_name,
        )
        appservices, on_demand = self._appservices, self._appservices.queries
        if self._queries is None:
            return RoomMembership(core.db, self._pipeline, name, core.partial_rooms, on_demand=on_demand)
        requests = MemberRequests(client, name, core.signing_key, core.clock)
        joining = RemoteJoin(
            core.db,
            self._pipeline,
            client,
            requests,
            key_ring,
            core.data.path,
            self._event_budget,
            core.partial_rooms,
            self.member_lists,
        )
        elsewhere = FederatedRooms(core.db, client, requests, joining, self._queries, name, appservices.followers)
        inbound = InboundInvites(core.db, key_ring, name, core.signing_key, appservices.followers, on_demand)
        core.router.add(InvitesApi(inbound, core.limiter))
        invites = OutboundInvites(core.db, client, key_ring)
        return RoomMembership(core.db, self._pipeline, name, core.partial_rooms, elsewhere, invites, on_demand)

    def start(self) -> None:
        """Go on with what came and was not taken in yet."""
        if not self._core.federates:
            return
        destinations = self._transport.destinations
        self.member_lists.start()
        self.inbox.start()
        destinations.on_return.append(self.inbox.on_return)
        self.comparison.start()
        destinations.on_recovery.append(self.comparison.compare_all)

    async def stop(self) -> None:
        """End what is under way; the rest waits on disk."""
        await self.transactions.close()
        await self.comparison.close()
        await self.inbox.close()
        await self.many_ends.close()
        await self.member_lists.close()
