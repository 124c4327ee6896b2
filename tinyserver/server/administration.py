"""What administrators do, and by what ways they do it."""

from __future__ import annotations

import time
from pathlib import Path

from tinyserver.administration.commands import Commands
from tinyserver.administration.conversation import Conversation
from tinyserver.administration.room import AdminRoom
from tinyserver.administration.warnings import Warnings
from tinyserver.api.admin.commands import CommandsApi, LocalCommandsApi
from tinyserver.api.routing import Router
from tinyserver.federation.overview import FederationOverview
from tinyserver.rooms.closing import RoomClosing
from tinyserver.rooms.server_notices import ServerNotices
from tinyserver.server.accounts import AccountParts
from tinyserver.server.appservices import AppserviceParts
from tinyserver.server.core import Core
from tinyserver.server.media import MediaParts
from tinyserver.server.rooms import RoomParts
from tinyserver.server.transport import Transport


class AdministrationParts:
    """The parts. `commands` are all commands that there are, `room` is where administrators give them by chat."""

    def __init__(
        self,
        core: Core,
        transport: Transport,
        rooms: RoomParts,
        accounts: AccountParts,
        media: MediaParts,
        overview: FederationOverview,
        appservices: AppserviceParts,
    ) -> None:
        db, clock, name = core.db, core.clock, core.server_name
        own = core.own_account
        self._notices = ServerNotices(db, own, rooms.creation, rooms.pipeline, name, core.config.admin_contact)
        self._closing = RoomClosing(db, rooms.membership, clock, self._notices)

        started = time.monotonic()

        def load() -> list[object]:
            # Only where somebody gives a command: it stays out of the memory of all others.
            from tinyserver.server.commands import make_commands

            closing, notices = self._closing, self._notices
            return make_commands(
                core, transport, rooms, accounts, media, overview, appservices, closing, notices, started
            )

        self.commands = Commands(load)
        conversation = Conversation(self.commands, time.monotonic)
        self.room = AdminRoom(db, core.bell, own, rooms.creation, rooms.pipeline, conversation, name)
        certificates = [Path(each.tls_certificate) for each in core.config.listen if each.tls_certificate]
        self._warnings = Warnings(db, core.bell, clock, self.room, core.data.path, certificates, time.monotonic)
        self._has_room = core.config.administration.room

    def serve(self, router: Router) -> None:
        """Give the endpoints to the router."""
        router.add(CommandsApi(self.commands))

    def serve_locally(self, router: Router) -> None:
        """Give the endpoints of the socket in the data directory to its router."""
        router.add(LocalCommandsApi(self.commands))

    def start(self) -> None:
        """Go on with what a stop of the server interrupted."""
        self._closing.start()
        self._notices.start()
        if self._has_room:
            self.room.start()
            self._warnings.start()

    async def stop(self) -> None:
        """End what is being done."""
        await self._closing.close()
        await self._notices.close()
        await self._warnings.close()
        await self.room.close()
