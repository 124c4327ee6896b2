"""All commands of administrators, each with what it needs."""

from __future__ import annotations

import time

from tinyserver.administration.appservices import AppserviceCommands
from tinyserver.administration.emails import EmailCommands
from tinyserver.administration.federation import FederationCommands
from tinyserver.administration.media import MediaCommands
from tinyserver.administration.notices import NoticeCommands
from tinyserver.administration.reports import ReportCommands
from tinyserver.administration.rooms import RoomCommands
from tinyserver.administration.server import ServerCommands
from tinyserver.administration.tokens import TokenCommands
from tinyserver.administration.users import UserCommands
from tinyserver.api.oauth.locations import invitation_link
from tinyserver.federation.overview import FederationOverview
from tinyserver.rooms.closing import RoomClosing
from tinyserver.rooms.server_notices import ServerNotices
from tinyserver.server.accounts import AccountParts
from tinyserver.server.appservices import AppserviceParts
from tinyserver.server.core import Core
from tinyserver.server.media import MediaParts
from tinyserver.server.rooms import RoomParts
from tinyserver.server.transport import Transport


def make_commands(
    core: Core,
    transport: Transport,
    rooms: RoomParts,
    accounts: AccountParts,
    media: MediaParts,
    overview: FederationOverview,
    appservices: AppserviceParts,
    closing: RoomClosing,
    notices: ServerNotices,
    started: float,
) -> list[object]:
    """The objects whose classes declare commands.

    Args:
        started: when the server was started, in seconds of the clock that only runs forward.
    """
    db, clock, name, public_url = core.db, core.clock, core.server_name, core.config.public_url

    def link(token: str) -> str | None:
        return invitation_link(public_url, token) if public_url else None

    return [
        UserCommands(accounts.administration, accounts.registration, name),
        EmailCommands(accounts.administration, accounts.mail.contacts, name),
        TokenCommands(accounts.registration_tokens, clock, link),
        RoomCommands(db, closing),
        MediaCommands(media.repository, clock, name),
        ReportCommands(db, rooms.reports),
        FederationCommands(overview, transport.destinations),
        AppserviceCommands(appservices.services, appservices.overview),
        NoticeCommands(db, notices, name),
        ServerCommands(db, core.data, time.monotonic, started),
    ]
