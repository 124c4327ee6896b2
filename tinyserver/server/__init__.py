"""The composition root: every part of the server is built here once and gets its collaborators by constructor.

Read it from top to bottom to see all parts and who knows whom.
"""

from __future__ import annotations

import secrets
import time

from tinyserver.accounts.account_data import AccountData
from tinyserver.accounts.administration import AccountAdministration
from tinyserver.accounts.authentication import TokenAuthenticator, TokenCache
from tinyserver.accounts.capabilities import Capabilities, account_capabilities, moderation_capability, room_versions
from tinyserver.accounts.devices import Devices
from tinyserver.accounts.directory import AccountsDirectory
from tinyserver.accounts.filters import Filters
from tinyserver.accounts.ignored_users import IgnoredUsers
from tinyserver.accounts.last_seen import LastSeen
from tinyserver.accounts.login import Login
from tinyserver.accounts.management import AccountManagement
from tinyserver.accounts.openid import OpenIdTokens
from tinyserver.accounts.password_check import PasswordCheck
from tinyserver.accounts.passwords import PasswordHasher
from tinyserver.accounts.profiles import Profiles
from tinyserver.accounts.registration import Registration
from tinyserver.accounts.registration_tokens import RegistrationTokens
from tinyserver.accounts.sessions import Lifetimes, Sessions
from tinyserver.accounts.shared_secret import SharedSecretRegistration
from tinyserver.accounts.uia import UserInteractiveAuth
from tinyserver.api.admin.local import LocalApi, LocalFederationApi
from tinyserver.api.admin.registration import SharedSecretApi
from tinyserver.api.app import build_app
from tinyserver.api.calls import AsgiApp
from tinyserver.api.client.account import AccountApi
from tinyserver.api.client.account_data import AccountDataApi
from tinyserver.api.client.aliases import AliasesApi
from tinyserver.api.client.capabilities import CapabilitiesApi
from tinyserver.api.client.cross_signing import CrossSigningApi
from tinyserver.api.client.dehydrated_devices import DehydratedDevicesApi
from tinyserver.api.client.delayed_events import UNSTABLE_FEATURES as DELAYED_EVENTS
from tinyserver.api.client.delayed_events import DelayedEventsApi, delayed_events_capability
from tinyserver.api.client.devices import DevicesApi
from tinyserver.api.client.events import EventsApi
from tinyserver.api.client.fallback import FallbackApi
from tinyserver.api.client.filters import FiltersApi
from tinyserver.api.client.key_backup import KeyBackupApi
from tinyserver.api.client.keys import KeysApi
from tinyserver.api.client.legacy_sync import LegacySyncApi
from tinyserver.api.client.login import LoginApi
from tinyserver.api.client.membership import MembershipApi
from tinyserver.api.client.messages import MessagesApi
from tinyserver.api.client.moderation import ModerationApi
from tinyserver.api.client.moments import MomentsApi
from tinyserver.api.client.notifications import NotificationsApi
from tinyserver.api.client.openid import OpenIdApi, UserInfoApi
from tinyserver.api.client.presence import PresenceApi
from tinyserver.api.client.profile import ProfileApi
from tinyserver.api.client.public_rooms import PublicRoomsApi
from tinyserver.api.client.push_rules import PushRulesApi
from tinyserver.api.client.receipts import ReceiptsApi
from tinyserver.api.client.registration import RegistrationApi
from tinyserver.api.client.relations import RelationsApi
from tinyserver.api.client.rendezvous import UNSTABLE_FEATURES as RENDEZVOUS
from tinyserver.api.client.reports import ReadReportsApi, ReportsApi
from tinyserver.api.client.room_state import StateApi
from tinyserver.api.client.rooms import RoomsApi
from tinyserver.api.client.search import SearchApi
from tinyserver.api.client.sliding_sync import UNSTABLE_FEATURES as SLIDING_SYNC
from tinyserver.api.client.sliding_sync import SlidingSyncApi
from tinyserver.api.client.spaces import SpacesApi as ClientSpacesApi
from tinyserver.api.client.sync import SyncApi
from tinyserver.api.client.thread_subscriptions import ThreadSubscriptionsApi
from tinyserver.api.client.to_device import ToDeviceApi
from tinyserver.api.client.typing import TypingApi
from tinyserver.api.client.users import UsersApi
from tinyserver.api.client.versions import VersionsApi
from tinyserver.api.federation.authentication import SignedRequests
from tinyserver.api.federation.events import EventsApi as ServedEventsApi
from tinyserver.api.federation.invites import InvitesApi
from tinyserver.api.federation.joins import JoinsApi
from tinyserver.api.federation.keys import KeysApi as ServerKeysApi
from tinyserver.api.federation.queries import QueriesApi
from tinyserver.api.federation.spaces import SpacesApi
from tinyserver.api.federation.transactions import TransactionsApi
from tinyserver.api.federation.user_keys import UserKeysApi
from tinyserver.api.federation.version import VersionApi
from tinyserver.api.login_attempts import LimitedLoginAttempts
from tinyserver.api.public_url import PublicUrl
from tinyserver.api.rate_limits import RateLimiter
from tinyserver.api.routing import Router, Surface
from tinyserver.api.well_known import WellKnownApi
from tinyserver.bell import Bell
from tinyserver.clock import Clock
from tinyserver.config import Config, Listener
from tinyserver.data_directory import DataDirectory, DataDirectoryError
from tinyserver.directory.aliases import Aliases
from tinyserver.directory.public_rooms import PublicRooms
from tinyserver.directory.spaces import Spaces
from tinyserver.directory.users import UserDirectory
from tinyserver.encryption.cross_signing import CrossSigning
from tinyserver.encryption.dehydrated_devices import UNSTABLE_FEATURES as DEHYDRATED_DEVICES
from tinyserver.encryption.dehydrated_devices import DehydratedDevices
from tinyserver.encryption.device_keys import DeviceKeys
from tinyserver.encryption.device_news import DeviceNewsReader
from tinyserver.encryption.identity_resets import IdentityResets
from tinyserver.encryption.key_backup import KeyBackup
from tinyserver.encryption.remote import NobodyElse, RemoteDevices, RemoteToDevice
from tinyserver.encryption.removed_devices import RemovedDevices
from tinyserver.encryption.to_device import ToDevice
from tinyserver.federation.client import FederationClient
from tinyserver.federation.destinations import Destinations
from tinyserver.federation.device_messages import OutgoingDeviceMessages, ReceivedDeviceMessages
from tinyserver.federation.device_updates import DeviceUpdates
from tinyserver.federation.discovery import Discovery
from tinyserver.federation.ephemeral import EphemeralExchange
from tinyserver.federation.greetings import Greetings
from tinyserver.federation.inbox import Inbox
from tinyserver.federation.key_ring import KeyRing
from tinyserver.federation.key_store import KeyStore
from tinyserver.federation.notary import Notary
from tinyserver.federation.overview import FederationOverview
from tinyserver.federation.participation.backfill import Backfill
from tinyserver.federation.participation.comparison import RoomComparison
from tinyserver.federation.participation.invites import InboundInvites, OutboundInvites
from tinyserver.federation.participation.joining import RemoteJoin
from tinyserver.federation.participation.member_lists import MemberLists
from tinyserver.federation.participation.member_requests import MemberRequests
from tinyserver.federation.participation.missing_events import MissingEventsFetcher
from tinyserver.federation.participation.moments import RemoteMoments
from tinyserver.federation.participation.queries import RemoteQueries
from tinyserver.federation.participation.rooms import FederatedRooms
from tinyserver.federation.participation.spaces import SpaceQueries
from tinyserver.federation.participation.states import RemoteStates
from tinyserver.federation.participation.withdrawals import Withdrawals
from tinyserver.federation.presence_exchange import PresenceExchange
from tinyserver.federation.remote_devices import RemoteDeviceLists
from tinyserver.federation.sender import FederationSender
from tinyserver.federation.serving.handshakes import Handshakes
from tinyserver.federation.serving.history import ServedHistory
from tinyserver.federation.serving.spaces import ServedSpaces
from tinyserver.federation.serving.state import RoomStates
from tinyserver.federation.serving.templates import Templates
from tinyserver.federation.signing_identity import SigningIdentity
from tinyserver.federation.transactions import InboundTransactions
from tinyserver.federation.well_known import WellKnown
from tinyserver.outgoing.addresses import AddressPolicy
from tinyserver.outgoing.dns import Resolver
from tinyserver.outgoing.http import HttpClient
from tinyserver.outgoing.tls import TlsClient
from tinyserver.presence.presence import Presence
from tinyserver.push.notifications import NotificationMarks
from tinyserver.push.past import PastNotifications
from tinyserver.push.pushers import UNSTABLE_FEATURES as PUSHERS
from tinyserver.push.rules import PushRules
from tinyserver.push.unread import UnreadCounter
from tinyserver.rooms.alone import Alone
from tinyserver.rooms.append import Appender
from tinyserver.rooms.completion import Completion
from tinyserver.rooms.creation import RoomCreation
from tinyserver.rooms.delayed_events import DelayedEvents, Limits
from tinyserver.rooms.drafts import EventSigner
from tinyserver.rooms.history import RoomHistory
from tinyserver.rooms.membership import RoomMembership
from tinyserver.rooms.moments import Moments
from tinyserver.rooms.partial_state import PartialRooms
from tinyserver.rooms.pipeline import EventPipeline
from tinyserver.rooms.receipts import Receipts
from tinyserver.rooms.relationships import Relationships
from tinyserver.rooms.reports import Reports
from tinyserver.rooms.sending import Sending
from tinyserver.rooms.state_reader import StateReader
from tinyserver.rooms.thread_subscriptions import ThreadSubscriptions
from tinyserver.rooms.typing import Typing
from tinyserver.rooms.upgrades import RoomUpgrades
from tinyserver.search.indexing import SearchIndexing
from tinyserver.search.messages import MessageSearch
from tinyserver.server.appservices import AppserviceParts
from tinyserver.server.calls import add_calls, call_transports
from tinyserver.server.media import MediaParts
from tinyserver.server.oauth import add_oauth
from tinyserver.server.push import PushParts, build_pushers
from tinyserver.storage.database import Database
from tinyserver.storage.devices import newest_seen
from tinyserver.storage.events import newest_timestamp
from tinyserver.sync.engine import SyncEngine
from tinyserver.sync.filter_sets import FilterSets
from tinyserver.sync.legacy import LegacySync
from tinyserver.sync.service import SyncService
from tinyserver.sync.sliding.service import SlidingSyncService
from tinyserver.sync.sources import Sources
from tinyserver.sync.waiting import Followers


class Server:
    """All parts of one homeserver.

    Building it opens nothing but files; :meth:`start` sets it to work. Sockets are not its business: a listener
    asks for its application with :meth:`app`.

    :param config: the whole configuration.
    :raises DataDirectoryError: the data directory cannot be used, or another server uses it.
    """

    def __init__(self, config: Config) -> None:
        self.config = config

        # The data directory: nobody else may write there while this server lives.
        self.data = DataDirectory(config.data_dir)
        self.data.create()
        if not self.data.lock():
            raise DataDirectoryError(f"another tinyserver is running on {config.data_dir}; stop it first")
        self.signing_key = self.data.read_signing_key()

        self.clock = Clock()
        self.db = Database(self.data.database, cache_budget=config.cache.budget)
        self.bell = Bell(self.db.position, tag=secrets.token_hex(4))
        self.db.on_commit = self.bell.ring
        self.partial_rooms = PartialRooms(self.db)
        self.ignored_users = IgnoredUsers()
        self.push_rules = PushRules(self.db)

        # The HTTP floor.
        self.limiter = RateLimiter(config.rate_limits, time.monotonic)
        self.public_url = PublicUrl(config.public_url)
        self.router = Router()
        transports = call_transports(config)
        features = DEHYDRATED_DEVICES | RENDEZVOUS | SLIDING_SYNC | DELAYED_EVENTS | PUSHERS
        self.router.add(VersionsApi(features | ({"org.matrix.msc4143": True} if transports else {})))
        self.router.add(WellKnownApi(config, transports))

        self.appservices = AppserviceParts(config, self.db, self.clock)
        self._build_federation(config)
        self._build_rooms(config)
        self._build_accounts(config)
        self._build_oauth(config)
        if config.federation.enabled:
            self._build_serving(config)
        self._build_encryption(config)
        self._build_sync(config)
        self.push = PushParts(
            config,
            self.db,
            self.bell,
            self.clock,
            self.pushers,
            http=self.http,
            resolver=self.resolver,
            tls=self.tls,
            rules=self.push_rules,
            ignored=self.ignored_users,
            unread=self.unread,
        )
        self.push.serve(self.router)
        self._build_media(config)
        self.sender = FederationSender(
            self.db,
            self.bell,
            self.federation_client,
            self.destinations,
            self.clock,
            config.server_name,
            _retry_pause_ms(config),
        )
        self.greetings = Greetings(self.db, self.sender, self.destinations)
        self.federation_overview = FederationOverview(self.db, self.destinations)
        exchange = EphemeralExchange(self.db, self.bell, self.typing, self.receipts, self.sender, config.server_name)
        self.transactions.handle("m.typing", exchange.take_typing)
        self.transactions.handle("m.receipt", exchange.take_receipts)
        self.presence_exchange = PresenceExchange(self.db, self.presence, self.sender)
        self.transactions.handle("m.presence", self.presence_exchange.take)

    def _build_federation(self, config: Config) -> None:
        """Other machines: how they are reached, and which servers they are. What is heavy is loaded when it is used."""
        tls = self.tls = TlsClient(
            verify=config.outgoing.verify_tls,
            extra_ca_files=config.outgoing.extra_ca_files,
            wall_ms=lambda: int(time.time() * 1000),
            best_known_ms=self.clock.now_ms,
        )
        self.resolver = Resolver(config.outgoing.dns_servers, time.monotonic)
        policy = AddressPolicy(allow_private=config.outgoing.allow_private_addresses)
        self.http = HttpClient(self.resolver, policy, tls)
        self.well_known = WellKnown(self.http, time.monotonic)
        self.destinations = Destinations(self.db, self.clock, first_pause_ms=_retry_pause_ms(config))
        discovery = Discovery(self.resolver, self.well_known)
        self.federation_client = FederationClient(
            config.server_name, self.signing_key, self.http, discovery, self.destinations
        )
        old_keys = self.data.read_old_signing_keys()
        identity = SigningIdentity(config.server_name, self.signing_key, old_keys, self.clock)
        store = KeyStore(self.db)
        notaries = config.federation.trusted_key_servers
        self.key_ring = KeyRing(identity, store, self.federation_client, self.clock, notaries, time.monotonic)
        self.signed_requests = SignedRequests(config.server_name, self.key_ring, self.destinations, self.limiter)
        if config.federation.enabled:
            self.router.add(ServerKeysApi(identity, Notary(identity, self.key_ring, store, self.clock), self.limiter))
            self.router.add(VersionApi())

    def _build_rooms(self, config: Config) -> None:
        """Rooms: the one path of an event."""
        alone = Alone(config.server_name, self.signing_key)
        self.appender = Appender(config.server_name, NotificationMarks(self.push_rules))
        federates = config.federation.enabled
        states = RemoteStates(self.db, self.federation_client, self.key_ring, self.data.path)
        missing_events = MissingEventsFetcher(self.db, self.federation_client, self.key_ring, states)
        self.backfill: Backfill | None = None
        moments: RemoteMoments | None = None
        if federates:
            self.backfill = Backfill(
                self.db,
                self.federation_client,
                self.key_ring,
                states,
                missing_events,
                self.appender,
                self.partial_rooms,
                config.server_name,
            )
            moments = RemoteMoments(self.db, self.federation_client, self.backfill, config.server_name)
        self.moments = Moments(self.db, self.ignored_users, moments)
        self.pipeline = EventPipeline(
            self.db,
            EventSigner(config.server_name, self.signing_key),
            self.appender,
            self.clock,
            self.key_ring if federates else alone,
            missing_events if federates else alone,
        )
        completion = Completion(self.appender, self.partial_rooms)
        self.member_lists = MemberLists(self.db, states, self.partial_rooms, completion)
        withdrawals = Withdrawals(self.db, self.key_ring)
        self.inbox = Inbox(self.db, self.pipeline, self.clock, _retry_pause_ms(config))
        self.comparison = RoomComparison(
            self.db, self.federation_client, self.inbox, self.clock, config.server_name, time.monotonic
        )
        self.transactions = InboundTransactions(self.db, self.inbox, withdrawals)
        if config.federation.enabled:
            self.router.add(TransactionsApi(self.transactions))
        self.queries = RemoteQueries(self.federation_client, time.monotonic) if federates else None
        self.membership = self._build_membership(config, self.queries)
        creation = RoomCreation(
            self.db,
            self.pipeline,
            self.membership,
            self.appservices.services,
            config.server_name,
            config.rooms.default_version,
        )
        sending = Sending(self.db, self.pipeline, self.membership, config.server_name)
        upgrades = RoomUpgrades(self.db, self.pipeline, creation, self.partial_rooms)
        limits = Limits(int(config.delayed_events.max_delay * 1000), config.delayed_events.max_scheduled)
        self.delayed_events = DelayedEvents(self.db, sending, self.clock, time.monotonic, limits)
        self.router.add(RoomsApi(creation, sending, upgrades, self.delayed_events))
        self.router.add(DelayedEventsApi(self.delayed_events))
        self.router.add(MembershipApi(self.membership))
        self._build_reading(config)

    def _build_membership(self, config: Config, queries: RemoteQueries | None) -> RoomMembership:
        """Who is in which room, on this server and, with federation, elsewhere."""
        name, client = config.server_name, self.federation_client
        if queries is None:
            return RoomMembership(self.db, self.pipeline, name, self.partial_rooms)
        requests = MemberRequests(client, name, self.signing_key, self.clock)
        joining = RemoteJoin(
            self.db,
            self.pipeline,
            client,
            requests,
            self.key_ring,
            self.data.path,
            self.partial_rooms,
            self.member_lists,
        )
        elsewhere = FederatedRooms(self.db, client, requests, joining, queries, name)
        self.router.add(InvitesApi(InboundInvites(self.db, self.key_ring, name, self.signing_key), self.limiter))
        invites = OutboundInvites(self.db, client, self.key_ring)
        return RoomMembership(self.db, self.pipeline, name, self.partial_rooms, elsewhere, invites)

    def _build_reading(self, config: Config) -> None:
        """What rooms show: history, state, and how they are found."""
        history = RoomHistory(self.db, self.clock, self.ignored_users, self.backfill)
        self.router.add(MessagesApi(history))
        self.router.add(EventsApi(history))
        reports = Reports(self.db, self.clock)
        self.router.add(ReportsApi(reports))
        self.router.add(ReadReportsApi(reports))
        self.router.add(ThreadSubscriptionsApi(ThreadSubscriptions(self.db)))
        self.router.add(MomentsApi(self.moments))
        self.router.add(RelationsApi(Relationships(self.db, self.clock, self.ignored_users)))
        self.router.add(StateApi(StateReader(self.db, self.clock, self.partial_rooms)))
        self.aliases = Aliases(self.db, self.pipeline, config.server_name, self.appservices.services, self.queries)
        self.public_rooms = PublicRooms(self.db, config.server_name, self.queries)
        self.router.add(AliasesApi(self.aliases))
        self.router.add(PublicRoomsApi(self.public_rooms))
        space_queries = SpaceQueries(self.federation_client, time.monotonic) if config.federation.enabled else None
        spaces = Spaces(self.db, self.aliases, config.server_name, time.monotonic, space_queries)
        self.router.add(ClientSpacesApi(spaces))
        self.search_indexing = SearchIndexing(self.db, self.bell)
        search = MessageSearch(self.db, self.search_indexing, self.clock, self.ignored_users)
        self.router.add(SearchApi(search))
        self.router.add(UsersApi(UserDirectory(self.db, self.search_indexing, config.server_name)))
        past = PastNotifications(self.db, self.clock, self.push_rules, self.ignored_users)
        self.router.add(NotificationsApi(past))

    def _build_accounts(self, config: Config) -> None:
        """Who uses this server: registration, login, sessions, devices, profiles and what clients keep here."""
        token_cache = TokenCache()
        self.last_seen = LastSeen(self.db, time.monotonic)
        self.authenticator = TokenAuthenticator(
            self.db, self.clock, token_cache, self.last_seen, self.appservices.tokens
        )
        self.accounts = AccountsDirectory(self.db, config.server_name)
        self.hasher = PasswordHasher(config.passwords.memory, config.passwords.iterations)
        self.pushers = build_pushers(config, self.db, self.clock)
        lifetimes = Lifetimes(
            access=int(config.sessions.access_token_lifetime * 1000),
            refresh=int(config.sessions.refresh_token_lifetime * 1000) or None,
        )
        self.sessions = Sessions(self.db, self.clock, token_cache, lifetimes, [RemovedDevices(), self.pushers])
        self.passwords = PasswordCheck(self.db, self.hasher, LimitedLoginAttempts(self.limiter), config.server_name)
        self.uia = UserInteractiveAuth(time.monotonic)
        self.registration_tokens = RegistrationTokens(self.db, self.clock)
        self.registration = Registration(
            self.db,
            self.clock,
            token_cache,
            self.sessions,
            self.hasher,
            self.uia,
            self.registration_tokens,
            server_name=config.server_name,
            mode=config.registration.mode,
            allow_guests=config.registration.allow_guests,
            reservations=[self.appservices.services],
        )
        shared_secret = SharedSecretRegistration(self.registration, config.registration.shared_secret, time.monotonic)
        self.login = Login(self.db, self.sessions, self.passwords, self.uia, time.monotonic)
        self.management = AccountManagement(
            self.db,
            token_cache,
            self.sessions,
            self.hasher,
            self.passwords,
            self.uia,
            self.last_seen,
            departures=self.membership,
        )
        service_accounts = self.appservices.accounts(self.sessions, self.login)
        self.router.add(RegistrationApi(self.registration, service_accounts))
        self.router.add(SharedSecretApi(shared_secret))
        self.router.add(LoginApi(self.login, service_accounts, self.sessions, config.server_name))
        self.router.add(FallbackApi(self.uia))
        self.router.add(AccountApi(self.management))
        self.router.add(ModerationApi(AccountAdministration(self.db, token_cache, config.server_name)))
        self.devices = Devices(self.db, self.sessions, self.passwords, self.uia, self.last_seen)
        self.router.add(DevicesApi(self.devices))
        self.profiles = Profiles(self.db, self.accounts, propagator=self.membership, remote=self.queries)
        self.router.add(ProfileApi(self.profiles))
        self.router.add(AccountDataApi(AccountData(self.db, {"m.push_rules": self.push_rules.content})))
        self.router.add(FiltersApi(Filters(self.db)))
        openid_tokens = OpenIdTokens(self.db, self.clock)
        self.router.add(OpenIdApi(openid_tokens, config.server_name))
        self.router.add(UserInfoApi(openid_tokens))
        add_calls(self.router, config, self.db, self.clock, openid_tokens, self.federation_client)
        capabilities = Capabilities(
            [
                room_versions(config.rooms.default_version),
                account_capabilities,
                moderation_capability,
                delayed_events_capability(self.delayed_events.limits),
            ]
        )
        self.router.add(CapabilitiesApi(capabilities))

    def _build_oauth(self, config: Config) -> None:
        """Signing in with a web browser, and by QR code."""
        self.identity_resets = IdentityResets(time.monotonic)
        add_oauth(
            self.router,
            self.db,
            self.clock,
            self.limiter,
            self.public_url,
            config.server_name,
            sessions=self.sessions,
            passwords=self.passwords,
            registration=self.registration,
            login=self.login,
            management=self.management,
            devices=self.devices,
            profiles=self.profiles,
            identity_resets=self.identity_resets,
        )

    def _build_serving(self, config: Config) -> None:
        """What other servers get of the rooms that this one is in, and of its users."""
        name = config.server_name
        states = RoomStates(self.db)
        handshakes = Handshakes(self.db, self.pipeline, self.key_ring, states, name, self.signing_key)
        self.router.add(JoinsApi(Templates(self.db, self.clock, name), handshakes, name))
        self.router.add(ServedEventsApi(ServedHistory(self.db), states, name, self.clock))
        self.router.add(SpacesApi(ServedSpaces(self.db)))
        self.router.add(QueriesApi(self.aliases, self.profiles, self.public_rooms, name))

    def _build_encryption(self, config: Config) -> None:
        """End-to-end encryption: public keys, and messages from device to device."""
        others, messages = self._others_devices(config)
        self.device_keys = DeviceKeys(self.db, others, config.server_name)
        self.device_news = DeviceNewsReader(self.db, self.bell)
        self.to_device = ToDevice(self.db, messages, config.server_name)
        if config.federation.enabled:
            self.router.add(UserKeysApi(self.device_keys, config.server_name))
            received = ReceivedDeviceMessages(self.db, self.to_device)
            self.transactions.handle("m.direct_to_device", received.take)
        cross_signing = CrossSigning(
            self.db, self.uia, self.passwords, others, config.server_name, self.identity_resets
        )
        self.router.add(KeysApi(self.device_keys, self.device_news, self.bell))
        self.router.add(CrossSigningApi(cross_signing, self.public_url))
        self.router.add(ToDeviceApi(self.to_device))
        self.router.add(KeyBackupApi(KeyBackup(self.db)))
        self.router.add(DehydratedDevicesApi(DehydratedDevices(self.db, self.clock, self.sessions)))

    def _others_devices(self, config: Config) -> tuple[RemoteDevices, RemoteToDevice]:
        """The devices of users of other servers, and the way of messages to them."""
        self.remote_devices: RemoteDeviceLists | None = None
        if not config.federation.enabled:
            return NobodyElse(), NobodyElse()
        self.remote_devices = RemoteDeviceLists(self.db, self.federation_client, self.destinations)
        updates = DeviceUpdates(self.db, self.remote_devices)
        self.transactions.handle("m.device_list_update", updates.take_list_update)
        self.transactions.handle("m.signing_key_update", updates.take_signing_keys)
        return self.remote_devices, OutgoingDeviceMessages()

    def _build_sync(self, config: Config) -> None:
        """What is new for each device: the one engine, and what it asks besides what rooms store."""
        self.presence = Presence(self.db, self.bell, enabled=config.presence.enabled)
        self.typing = Typing(self.db, self.bell)
        receipts = self.receipts = Receipts(self.db, self.clock)
        unread = self.unread = UnreadCounter(self.push_rules, self.ignored_users, config.cache.budget // 16)
        sources = Sources(unread, receipts, self.typing, self.presence, self.push_rules, self.device_news)
        followers = Followers(self.bell)
        engine = SyncEngine(self.db, self.bell, sources, followers, self.partial_rooms)
        self.sync = SyncService(self.db, self.bell, self.clock, sources, engine, followers)
        self.router.add(SyncApi(self.sync, FilterSets(self.db)))
        self.sliding_sync = SlidingSyncService(self.db, self.bell, self.clock, sources, engine, followers)
        self.router.add(SlidingSyncApi(self.sliding_sync))
        legacy = LegacySync(self.db, self.bell, self.clock, sources, engine, followers)
        self.router.add(LegacySyncApi(legacy))
        self.router.add(ReceiptsApi(receipts, self.presence))
        self.router.add(TypingApi(self.typing, self.presence))
        self.router.add(PresenceApi(self.presence))
        self.router.add(PushRulesApi(self.push_rules))

    def _build_media(self, config: Config) -> None:
        """Files that people send."""
        strict = AddressPolicy(allow_private=config.url_previews.allow_private_addresses)
        previews_http = HttpClient(self.resolver, strict, self.tls)
        self.media = MediaParts(
            config, self.data, self.db, self.clock, self.federation_client, self.http, previews_http
        )
        self.media.serve(self.router)

    def app(self, listener: Listener) -> AsgiApp:
        """The ASGI application for a listener: what it serves, behind the proxies that it trusts."""
        return build_app(
            self.router,
            self.authenticator,
            self.limiter,
            surfaces=[Surface(name) for name in listener.serves],
            trusted_proxies=listener.trusted_proxies,
            admin_contact=self.config.admin_contact or self.config.public_url or f"https://{self.config.server_name}",
            server_authenticator=self.signed_requests if self.config.federation.enabled else None,
        )

    def local_app(self) -> AsgiApp:
        """The ASGI application for the socket in the data directory, by which the command line talks to this server."""
        router = Router()
        router.add(LocalApi(self.registration, self.registration_tokens))
        router.add(LocalFederationApi(self.federation_overview))
        return build_app(router, self.authenticator, self.limiter)

    async def start(self) -> None:
        """Set everything to work; afterwards requests can be answered."""
        self.db.start()
        self.clock.raise_floor(self.db.glance(lambda tx: max(newest_timestamp(tx), newest_seen(tx))))
        await self.appservices.start()
        await self.media.start()
        self.delayed_events.start()
        self.partial_rooms.load()
        if self.config.federation.enabled:
            self.sender.start()
            self.member_lists.start()
            self.inbox.start()
            self.destinations.on_return.append(self.inbox.on_return)
            self.comparison.start()
            self.greetings.greet_all()
            self.destinations.on_recovery.append(self.comparison.compare_all)
        if self.remote_devices is not None:
            self.remote_devices.start()
        self.push.start()
        self.search_indexing.start()
        await self.management.resume_departures()
        await self.profiles.resume()

    async def drain(self) -> None:
        """The process is about to stop: end what waits for news, so that every open request is answered soon."""
        self.partial_rooms.close()
        self.sync.close()

    async def stop(self) -> None:
        """Store what is to be stored and close everything; no request is running any more."""
        await self.push.stop()
        await self.search_indexing.close()
        await self.transactions.close()
        await self.comparison.close()
        await self.inbox.close()
        if self.backfill is not None:
            await self.backfill.close()
        self.presence_exchange.close()
        await self.greetings.close()
        await self.sender.close()
        await self.member_lists.close()
        if self.remote_devices is not None:
            await self.remote_devices.close()
        self.typing.close()
        self.presence.close()
        self.hasher.close()
        await self.delayed_events.close()
        await self.media.stop()
        await self.last_seen.close()
        await self.key_ring.close()
        await self.well_known.close()
        await self.http.close()
        await self.resolver.close()
        await self.destinations.close()
        await self.sliding_sync.close()
        await self.db.close()
        self.data.unlock()


def _retry_pause_ms(config: Config) -> int:
    return int(config.federation.retry_pause * 1000)
