"""Telling people of events: pushers, push gateways, and the built-in one for UnifiedPush."""

from __future__ import annotations

from tinyserver.accounts.ignored_users import IgnoredUsers
from tinyserver.api.client.pushers import PushersApi
from tinyserver.api.oauth.locations import UNSUBSCRIBE
from tinyserver.api.push_gateway import PushGatewayApi
from tinyserver.api.routing import Router
from tinyserver.api.web.unsubscribe import UnsubscribePages
from tinyserver.bell import Bell
from tinyserver.clock import Clock
from tinyserver.config import Config
from tinyserver.mail.mailer import Mailer
from tinyserver.outgoing.addresses import AddressPolicy
from tinyserver.outgoing.dns import Resolver
from tinyserver.outgoing.http import HttpClient
from tinyserver.outgoing.tls import TlsClient
from tinyserver.push.delivery import PushDelivery
from tinyserver.push.due import DueReader
from tinyserver.push.emails import EmailDelivery, MailTimes, Subscriptions, UnsubscribeKeys
from tinyserver.push.pushers import NOTIFY_PATH, Pushers
from tinyserver.push.rules import PushRules
from tinyserver.push.unifiedpush import UnifiedPush
from tinyserver.push.unread import UnreadCounter
from tinyserver.storage.database import Database


class PushParts:
    """All parts of push.

    :param pushers: made first, since sessions tell it of devices that go.
    :param http: reaches gateways.
    :param secret: known to this server only.
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
        mailer: Mailer,
        secret: bytes,
    ) -> None:
        self._config = config
        self._pushers = pushers
        settings = config.unifiedpush
        self._strict = HttpClient(resolver, AddressPolicy(allow_private=False), tls)
        self._own = HttpClient(resolver, AddressPolicy(allow_private=settings.allow_private_addresses), tls)
        self._gateway = UnifiedPush(db, self._strict, self._own)
        due = DueReader(rules, ignored, unread)
        keys = UnsubscribeKeys(secret)
        self._subscriptions = Subscriptions(db, keys)
        public_url, wanted = config.public_url.rstrip("/"), config.mail_notifications
        self._emails = EmailDelivery(
            db,
            bell,
            clock,
            mailer,
            due,
            config.server_name,
            MailTimes(int(wanted.delay * 1000), int(wanted.pause * 1000), int(wanted.longest_pause * 1000)),
            lambda pusher: f"{public_url}{UNSUBSCRIBE}?pusher={pusher}&key={keys.key(pusher)}",
            with_texts=wanted.with_messages,
        )
        self._delivery = PushDelivery(
            db, bell, clock, http, due, own_gateway_url(config), self._gateway.notify, self._emails.news
        )
        pushers.on_set = self._delivery.refresh

    def serve(self, router: Router) -> None:
        """Give the endpoints to the router."""
        router.add(PushersApi(self._pushers))
        router.add(UnsubscribePages(self._subscriptions, self._config.server_name))
        if self._config.unifiedpush.enabled:
            router.add(PushGatewayApi(self._gateway))

    def start(self) -> None:
        """Go on with what was not told yet."""
        self._delivery.start()
        self._emails.start()

    async def stop(self) -> None:
        """Tell nobody any more."""
        await self._delivery.close()
        await self._emails.close()
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
    own_url = own_gateway_url(config)
    return Pushers(db, clock, allow_http=allow_http, own_url=own_url, with_mail=bool(config.smtp.host))
