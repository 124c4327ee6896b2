"""The composition root: every part of the server is built here once and gets its collaborators by constructor.

Read it from top to bottom to see all parts and who knows whom.
"""

from __future__ import annotations

import time

from tinyserver.api.app import build_app
from tinyserver.api.calls import AsgiApp
from tinyserver.api.client.delayed_events import UNSTABLE_FEATURES as DELAYED_EVENTS
from tinyserver.api.client.rendezvous import UNSTABLE_FEATURES as RENDEZVOUS
from tinyserver.api.client.sliding_sync import UNSTABLE_FEATURES as SLIDING_SYNC
from tinyserver.api.client.versions import VersionsApi
from tinyserver.api.routing import Router, Surface
from tinyserver.api.well_known import WellKnownApi
from tinyserver.config import Config, Listener
from tinyserver.encryption.dehydrated_devices import UNSTABLE_FEATURES as DEHYDRATED_DEVICES
from tinyserver.encryption.identity_resets import IdentityResets
from tinyserver.push.pushers import UNSTABLE_FEATURES as PUSHERS
from tinyserver.server.accounts import AccountParts
from tinyserver.server.administration import AdministrationParts
from tinyserver.server.appservices import AppserviceParts
from tinyserver.server.calls import call_transports
from tinyserver.server.core import Core
from tinyserver.server.delivery import Delivery
from tinyserver.server.encryption import EncryptionParts
from tinyserver.server.media import MediaParts
from tinyserver.server.oauth import add_oauth
from tinyserver.server.push import PushParts
from tinyserver.server.rooms import RoomParts
from tinyserver.server.serving import add_serving
from tinyserver.server.syncing import SyncParts
from tinyserver.server.transport import Transport


class Server:
    """All parts of one homeserver.

    Building it opens nothing but files; :meth:`start` sets it to work. Sockets are not its business: a listener
    asks for its application with :meth:`app`.

    :param config: the whole configuration.
    :raises DataDirectoryError: the data directory cannot be used, or another server uses it.
    """

    def __init__(self, config: Config) -> None:
        self.config = config
        core = self.core = Core(config)
        self.data, self.db, self.router = core.data, core.db, core.router

        transports = call_transports(config)
        features = DEHYDRATED_DEVICES | RENDEZVOUS | SLIDING_SYNC | DELAYED_EVENTS | PUSHERS
        self.router.add(VersionsApi(features | ({"org.matrix.msc4143": True} if transports else {})))
        self.router.add(WellKnownApi(config, transports))

        self.transport = Transport(core)
        self.appservices = AppserviceParts(core, self.transport)
        self.rooms = RoomParts(core, self.transport, self.appservices)
        self.accounts = AccountParts(core, self.transport, self.rooms, self.appservices)
        identity_resets = IdentityResets(time.monotonic)
        add_oauth(
            self.router,
            core.db,
            core.clock,
            core.limiter,
            core.public_url,
            config.server_name,
            sessions=self.accounts.sessions,
            passwords=self.accounts.passwords,
            registration=self.accounts.registration,
            login=self.accounts.login,
            management=self.accounts.management,
            devices=self.accounts.devices,
            profiles=self.accounts.profiles,
            identity_resets=identity_resets,
            emails=self.accounts.mail.validation,
            contacts=self.accounts.mail.contacts,
        )
        if core.federates:
            add_serving(core, self.transport, self.rooms, self.accounts.profiles)
        transactions = self.rooms.participation.transactions
        self.encryption = EncryptionParts(
            core, self.transport, transactions, self.accounts, identity_resets, self.appservices
        )
        self.sync = SyncParts(core, self.encryption.device_news, self.appservices)
        self.accounts.profiles.on_change.append(self.sync.presence.profile_changed)
        self.push = PushParts(
            config,
            core.db,
            core.bell,
            core.clock,
            self.accounts.pushers,
            http=self.transport.http,
            resolver=self.transport.resolver,
            tls=self.transport.tls,
            rules=core.push_rules,
            ignored=core.ignored_users,
            unread=self.sync.unread,
            mailer=self.accounts.mail.mailer,
            # Nothing else that is signed looks like this, so nobody else has the signature.
            secret=core.signing_key.sign(b"tinyserver unsubscribe").encode(),
        )
        self.push.serve(self.router)
        self.media = MediaParts(core, self.transport)
        self.media.serve(self.router)
        self.delivery = Delivery(core, self.transport, transactions, self.sync)
        self.administration = AdministrationParts(
            core, self.transport, self.rooms, self.accounts, self.media, self.delivery.overview, self.appservices
        )
        self.administration.serve(self.router)

    def app(self, listener: Listener) -> AsgiApp:
        """The ASGI application for a listener: what it serves, behind the proxies that it trusts."""
        return build_app(
            self.router,
            self.accounts.authenticator,
            self.core.limiter,
            surfaces=[Surface(name) for name in listener.serves],
            trusted_proxies=listener.trusted_proxies,
            admin_contact=self.config.admin_contact or self.config.public_url or f"https://{self.config.server_name}",
            server_authenticator=self.transport.signed_requests if self.core.federates else None,
            body_budget=self.core.body_budget,
        )

    def local_app(self) -> AsgiApp:
        """The ASGI application for the socket in the data directory, by which the command line talks to this server."""
        router = Router()
        self.administration.serve_locally(router)
        return build_app(router, self.accounts.authenticator, self.core.limiter)

    async def start(self) -> None:
        """Set everything to work; afterwards requests can be answered."""
        await self.core.start()
        await self.appservices.start(self.sync.typing, self.sync.presence)
        await self.media.start()
        self.rooms.start()
        self.delivery.start()
        self.encryption.start()
        self.push.start()
        await self.accounts.start()
        self.administration.start()

    async def drain(self) -> None:
        """The process is about to stop: end what waits for news, so that every open request is answered soon."""
        self.core.partial_rooms.close()
        self.sync.end_waiting()

    async def stop(self) -> None:
        """Store what is to be stored and close everything; no request is running any more."""
        await self.administration.stop()
        await self.push.stop()
        await self.appservices.stop()
        await self.delivery.stop()
        await self.rooms.stop()
        await self.encryption.stop()
        await self.media.stop()
        await self.accounts.stop()
        await self.sync.stop()
        await self.transport.stop()
        await self.core.stop()
