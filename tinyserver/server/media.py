"""Files that people send, copies of those of other servers, thumbnails, and previews of links."""

from __future__ import annotations

import time

from tinyserver.api.client.media import MediaApi
from tinyserver.api.client.previews import PreviewsApi
from tinyserver.api.federation.media import ServedMediaApi
from tinyserver.api.routing import Router
from tinyserver.media.blobs import DirectoryBlobs
from tinyserver.media.housekeeping import Housekeeping, Room
from tinyserver.media.previews import Previews
from tinyserver.media.remote import RemoteMedia
from tinyserver.media.repository import MediaRepository
from tinyserver.media.thumbnails import Thumbnails
from tinyserver.media.workshop import Workshop
from tinyserver.outgoing.addresses import AddressPolicy
from tinyserver.outgoing.http import HttpClient
from tinyserver.server.core import Core
from tinyserver.server.transport import Transport


class MediaParts:
    """All parts of the media repository."""

    def __init__(self, core: Core, transport: Transport) -> None:
        config, data, db, clock = core.config, core.data, core.db, core.clock
        # Previews fetch what strangers name: they keep out of the own network.
        strict = AddressPolicy(allow_private=config.url_previews.allow_private_addresses)
        previews_http = HttpClient(transport.resolver, strict, transport.tls)
        settings = config.media
        self._blobs = DirectoryBlobs(data.media)
        self.repository = MediaRepository(
            db,
            self._blobs,
            clock,
            server_name=config.server_name,
            max_upload=settings.max_upload,
            quota=settings.quota,
        )
        room = Room(
            settings.remote_cache.size,
            settings.remote_cache.share,
            copies_age_ms=int(settings.remote_lifetime * 1000),
            uploads_age_ms=int(settings.local_lifetime * 1000),
        )
        self._housekeeping = Housekeeping(db, self.repository, clock, room)
        self._workshop = Workshop(settings.max_image_pixels)
        self._thumbnails = Thumbnails(db, self.repository, self._workshop, clock)
        self._remote = RemoteMedia(self.repository, transport.client, transport.http, settings.max_remote)
        if config.federation.enabled:
            self.repository.elsewhere = self._remote
        self._previews = Previews(
            previews_http,
            self.repository,
            self._workshop,
            enabled=config.url_previews.enabled,
            blocked=config.url_previews.blocked_domains,
            monotonic=time.monotonic,
        )
        self._config = config

    def serve(self, router: Router) -> None:
        """Give the endpoints to the router."""
        router.add(MediaApi(self.repository, self._thumbnails, unauthenticated=self._config.media.unauthenticated))
        router.add(PreviewsApi(self._previews))
        if self._config.federation.enabled:
            router.add(ServedMediaApi(self.repository, self._thumbnails, self._config.server_name))

    async def start(self) -> None:
        """Remove what an earlier run left half received."""
        await self._blobs.clear_incoming()

    async def stop(self) -> None:
        """End what is being fetched and made."""
        await self._remote.close()
        await self._housekeeping.close()
        await self._previews.close()
        await self._workshop.close()
        self._blobs.close()
