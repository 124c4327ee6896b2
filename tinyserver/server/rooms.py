"""Rooms: the one path of an event, membership, and what rooms show."""

from __future__ import annotations

import time

from tinyserver.api.client.aliases import AliasesApi
from tinyserver.api.client.delayed_events import DelayedEventsApi
from tinyserver.api.client.events import EventsApi
from tinyserver.api.client.membership import MembershipApi
from tinyserver.api.client.messages import MessagesApi
from tinyserver.api.client.moments import MomentsApi
from tinyserver.api.client.notifications import NotificationsApi
from tinyserver.api.client.public_rooms import PublicRoomsApi
from tinyserver.api.client.relations import RelationsApi
from tinyserver.api.client.reports import ReadReportsApi, ReportsApi
from tinyserver.api.client.room_state import StateApi
from tinyserver.api.client.rooms import RoomsApi
from tinyserver.api.client.search import SearchApi
from tinyserver.api.client.spaces import SpacesApi as ClientSpacesApi
from tinyserver.api.client.thread_subscriptions import ThreadSubscriptionsApi
from tinyserver.api.client.users import UsersApi
from tinyserver.directory.aliases import Aliases
from tinyserver.directory.public_rooms import PublicRooms
from tinyserver.directory.spaces import Spaces
from tinyserver.directory.users import UserDirectory
from tinyserver.federation.participation.spaces import SpaceQueries
from tinyserver.federation.policy_servers import RemotePolicyServers
from tinyserver.push.notifications import NotificationMarks
from tinyserver.push.past import PastNotifications
from tinyserver.rooms.alone import Alone
from tinyserver.rooms.append import Appender
from tinyserver.rooms.creation import RoomCreation
from tinyserver.rooms.delayed_events import DelayedEvents, Limits
from tinyserver.rooms.drafts import EventSigner
from tinyserver.rooms.history import RoomHistory
from tinyserver.rooms.moments import Moments
from tinyserver.rooms.pipeline import EventPipeline
from tinyserver.rooms.policy import NoPolicyServers, PolicyCheck, PolicyServers
from tinyserver.rooms.relationships import Relationships
from tinyserver.rooms.reports import Reports
from tinyserver.rooms.sending import Sending
from tinyserver.rooms.state_reader import StateReader
from tinyserver.rooms.thread_subscriptions import ThreadSubscriptions
from tinyserver.rooms.upgrades import RoomUpgrades
from tinyserver.search.indexing import SearchIndexing
from tinyserver.search.messages import MessageSearch
from tinyserver.server.appservices import AppserviceParts
from tinyserver.server.core import Core
from tinyserver.server.identity import IdentityParts
from tinyserver.server.participation import Fetching, Participation
from tinyserver.server.transport import Transport


class RoomParts:
    """All parts of rooms, those of other servers included."""

    def __init__(self, core: Core, transport: Transport, appservices: AppserviceParts) -> None:
        config, db, name = core.config, core.db, core.server_name
        services = appservices.services
        alone = Alone(name, core.signing_key)
        self.appender = Appender(name, NotificationMarks(core.push_rules), appservices.followers)
        self.fetching = Fetching(core, transport, self.appender)
        policy_servers: PolicyServers = NoPolicyServers()
        if core.federates:
            policy_servers = RemotePolicyServers(transport.client, name, time.monotonic)
        self.pipeline = EventPipeline(
            db,
            EventSigner(name, core.signing_key),
            self.appender,
            core.clock,
            transport.key_ring if core.federates else alone,
            self.fetching.missing_events if core.federates else alone,
            PolicyCheck(name, policy_servers),
        )
        self.participation = Participation(core, transport, self.fetching, self.appender, self.pipeline, appservices)
        self.membership = self.participation.membership()
        self.identity = IdentityParts(core, transport, self.membership, self.pipeline)
        self.creation = RoomCreation(
            db,
            self.pipeline,
            self.membership,
            services,
            name,
            config.rooms.default_version,
            self.identity.invites,
        )
        sending = Sending(db, self.pipeline, self.membership, name)
        upgrades = RoomUpgrades(db, self.pipeline, self.creation, core.partial_rooms)
        limits = Limits(int(config.delayed_events.max_delay * 1000), config.delayed_events.max_scheduled)
        self.delayed_events = DelayedEvents(db, sending, core.clock, time.monotonic, limits)
        core.router.add(RoomsApi(self.creation, sending, upgrades, self.delayed_events))
        core.router.add(DelayedEventsApi(self.delayed_events))
        core.router.add(MembershipApi(self.membership, self.identity.invites))
        self._add_history(core)
        self._add_finding(core, transport, appservices)

    def _add_history(self, core: Core) -> None:
        """What rooms show: history and state."""
        db, router = core.db, core.router
        history = RoomHistory(db, core.clock, core.ignored_users, self.fetching.backfill)
        router.add(MessagesApi(history))
        router.add(EventsApi(history))
        router.add(MomentsApi(Moments(db, core.ignored_users, self.fetching.moments)))
        router.add(RelationsApi(Relationships(db, core.clock, core.ignored_users)))
        router.add(ThreadSubscriptionsApi(ThreadSubscriptions(db, core.push_rules)))
        router.add(StateApi(StateReader(db, core.clock, core.partial_rooms)))
        self.reports = Reports(db, core.clock)
        router.add(ReportsApi(self.reports))
        router.add(ReadReportsApi(self.reports))

    def _add_finding(self, core: Core, transport: Transport, appservices: AppserviceParts) -> None:
        """How rooms, people and messages are found."""
        db, router, name, queries = core.db, core.router, core.server_name, self.fetching.queries
        self.aliases = Aliases(db, self.pipeline, name, appservices.services, queries, appservices.queries)
        self.public_rooms = PublicRooms(db, name, queries, appservices.networks)
        router.add(AliasesApi(self.aliases))
        router.add(PublicRoomsApi(self.public_rooms))
        space_queries = SpaceQueries(transport.client, time.monotonic) if core.federates else None
        router.add(ClientSpacesApi(Spaces(db, self.aliases, name, time.monotonic, space_queries)))
        self.search_indexing = SearchIndexing(db, core.bell)
        router.add(SearchApi(MessageSearch(db, self.search_indexing, core.clock, core.ignored_users)))
        router.add(UsersApi(UserDirectory(db, self.search_indexing, name, core.own_account.user_id)))
        router.add(NotificationsApi(PastNotifications(db, core.clock, core.push_rules, core.ignored_users)))

    def start(self) -> None:
        """Go on with what an earlier run has left."""
        self.delayed_events.start()
        self.participation.start()
        self.search_indexing.start()

    async def stop(self) -> None:
        """End what is under way."""
        await self.search_indexing.close()
        await self.participation.stop()
        await self.fetching.stop()
        await self.delayed_events.close()
