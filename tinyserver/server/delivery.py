"""What goes to other servers: events, typing, receipts, presence, and that we are back."""

from __future__ import annotations

from tinyserver.federation.ephemeral import EphemeralExchange
from tinyserver.federation.greetings import Greetings
from tinyserver.federation.overview import FederationOverview
from tinyserver.federation.presence_exchange import PresenceExchange
from tinyserver.federation.sender import FederationSender
from tinyserver.federation.transactions import InboundTransactions
from tinyserver.server.core import Core
from tinyserver.server.syncing import SyncParts
from tinyserver.server.transport import Transport


class Delivery:
    """All parts of what goes out, and the exchange of what is not stored."""

    def __init__(self, core: Core, transport: Transport, transactions: InboundTransactions, sync: SyncParts) -> None:
        self._federates = core.federates
        db, destinations, name = core.db, transport.destinations, core.server_name
        self._sender = FederationSender(
            db, core.bell, transport.client, destinations, core.clock, name, core.retry_pause_ms
        )
        self._greetings = Greetings(db, self._sender, destinations)
        self.overview = FederationOverview(db, destinations)
        exchange = EphemeralExchange(db, core.bell, sync.typing, sync.receipts, self._sender, name)
        transactions.handle("m.typing", exchange.take_typing)
        transactions.handle("m.receipt", exchange.take_receipts)
        self._presence_exchange = PresenceExchange(db, sync.presence, self._sender)
        transactions.handle("m.presence", self._presence_exchange.take)

    def start(self) -> None:
        """Send what is owed, and greet everybody."""
        if self._federates:
            self._sender.start()
            self._greetings.greet_all()

    async def stop(self) -> None:
        """End what is under way; what is owed stands on disk."""
        self._presence_exchange.close()
        await self._greetings.close()
        await self._sender.close()
