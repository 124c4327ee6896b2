"""What is new for each device: the one engine, and what it asks besides what rooms store."""

from __future__ import annotations

from tinyserver.api.client.legacy_sync import LegacySyncApi
from tinyserver.api.client.presence import PresenceApi
from tinyserver.api.client.push_rules import PushRulesApi
from tinyserver.api.client.receipts import ReceiptsApi
from tinyserver.api.client.sliding_sync import SlidingSyncApi
from tinyserver.api.client.sync import SyncApi
from tinyserver.api.client.typing import TypingApi
from tinyserver.encryption.device_news import DeviceNewsReader
from tinyserver.presence.presence import Presence
from tinyserver.push.unread import UnreadCounter
from tinyserver.rooms.receipts import Receipts
from tinyserver.rooms.typing import Typing
from tinyserver.server.appservices import AppserviceParts
from tinyserver.server.core import Core
from tinyserver.sync.engine import SyncEngine
from tinyserver.sync.filter_sets import FilterSets
from tinyserver.sync.legacy import LegacySync
from tinyserver.sync.service import SyncService
from tinyserver.sync.sliding.service import SlidingSyncService
from tinyserver.sync.sources import Sources
from tinyserver.sync.waiting import Followers


class SyncParts:
    """All parts of the three ways of syncing, and of what is told by them alone."""

    def __init__(self, core: Core, device_news: DeviceNewsReader, appservices: AppserviceParts) -> None:
        db, bell, clock, router = core.db, core.bell, core.clock, core.router
        self.presence = Presence(db, bell, enabled=core.config.presence.enabled)
        self.typing = Typing(db, bell)
        self.receipts = Receipts(db, clock, appservices.followers)
        self.unread = UnreadCounter(core.push_rules, core.ignored_users, core.config.cache.budget // 16)
        sources = Sources(self.unread, self.receipts, self.typing, self.presence, core.push_rules, device_news)
        followers = Followers(bell)
        engine = SyncEngine(db, bell, sources, followers, core.partial_rooms)
        self._sync = SyncService(db, bell, clock, sources, engine, followers)
        router.add(SyncApi(self._sync, FilterSets(db)))
        self._sliding_sync = SlidingSyncService(db, bell, clock, sources, engine, followers)
        router.add(SlidingSyncApi(self._sliding_sync))
        router.add(LegacySyncApi(LegacySync(db, bell, clock, sources, engine, followers)))
        router.add(ReceiptsApi(self.receipts, self.presence))
        router.add(TypingApi(self.typing, self.presence))
        router.add(PresenceApi(self.presence))
        router.add(PushRulesApi(core.push_rules))

    def end_waiting(self) -> None:
        """Answer every sync that waits."""
        self._sync.close()

    async def stop(self) -> None:
        """Forget who types and who is there; store what connections of sliding sync have."""
        self.typing.close()
        self.presence.close()
        await self._sliding_sync.close()
