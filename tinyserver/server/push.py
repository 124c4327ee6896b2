"""Telling people of events: pushers, push gateways, and the built-in one for UnifiedPush."""

from __future__ import annotations

from tinyserver.accounts.ignored_users import IgnoredUsers
from tinyserver.api.client.pushers import PushersApi
from tinyserver.api.push_gateway import PushGatewayApi
from tinyserver.api.routing import Router
from tinyserver.bell import Bell
from tinyserver.clock import Clock
from tinyserver.config import Config
from tinyserver.outgoing.addresses import AddressPolicy
from tinyserver.outgoing.dns import Resolver
from tinyserver.outgoing.http import HttpClient
from tinyserver.outgoing.tls import TlsClient
from tinyserver.push.delivery import PushDelivery
from tinyserver.push.due import DueReader
from tinyserver.push.pushers import NOTIFY_PATH, Pushers
from tinyserver.push.rules import PushRules
from tinyserver.push.unifiedpush import UnifiedPush
from tinyserver.push.unread import UnreadCounter
from tinyserver.storage.database import Database


class PushParts:
    """All parts of push.

    :param pushers: made first, since sessions tell it of devices that go.
    :param http: reaches gateways.
    """

    def __init__(
        self,
        config: Config,
        db: Database,
        bell: Bell,
        clock: Clock,
        pushers: Pushers,
        *,
        http: HttpClient,
        resolver: Resolver,
        tls: TlsClient,
        rules: PushRules,
        ignored: IgnoredUsers,
        unread: UnreadCounter,
    ) -> None:
        self._config = config
        self._pushers = pushers
        settings = config.unifiedpush
        self._strict = HttpClient(resolver, AddressPolicy(allow_private=False), tls)
        self._own = HttpClient(resolver, AddressPolicy(allow_private=settings.allow_private_addresses), tls)
        self._gateway = UnifiedPush(db, self._strict, self._own)
        due = DueReader(rules, ignored, unread)
        self._delivery = PushDelivery(db, bell, clock, http, due, own_gateway_url(config), self._gateway.notify)
        pushers.on_set = self._delivery.refresh

    def serve(self, router: Router) -> None:
        """Give the endpoints to the router."""
        router.add(PushersApi(self._pushers))
        if self._config.unifiedpush.enabled:
            router.add(PushGatewayApi(self._gateway))

    def start(self) -> None:
        """Go on with what was not told yet."""
        self._delivery.start()

    async def stop(self) -> None:
        """Tell nobody any more."""
        await self._delivery.close()
        await self._strict.close()
        await self._own.close()


def own_gateway_url(config: Config) -> str:
    """The URL of the built-in gateway; "" where there is none."""
    if not (config.unifiedpush.enabled and config.public_url):
        return ""
    return config.public_url.rstrip("/") + NOTIFY_PATH


def build_pushers(config: Config, db: Database, clock: Clock) -> Pushers:
    """The users' pushers."""
    allow_http = config.outgoing.allow_private_addresses
    return Pushers(db, clock, allow_http=allow_http, own_url=own_gateway_url(config))
