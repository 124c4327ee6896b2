"""What other servers get of the rooms that this one is in, and of its users."""

from __future__ import annotations

from tinyserver.accounts.profiles import Profiles
from tinyserver.api.federation.events import EventsApi as ServedEventsApi
from tinyserver.api.federation.joins import JoinsApi
from tinyserver.api.federation.queries import QueriesApi
from tinyserver.api.federation.spaces import SpacesApi
from tinyserver.federation.serving.handshakes import Handshakes
from tinyserver.federation.serving.history import ServedHistory
from tinyserver.federation.serving.spaces import ServedSpaces
from tinyserver.federation.serving.state import RoomStates
from tinyserver.federation.serving.templates import Templates
from tinyserver.server.core import Core
from tinyserver.server.rooms import RoomParts
from tinyserver.server.transport import Transport


def add_serving(core: Core, transport: Transport, rooms: RoomParts, profiles: Profiles) -> None:
    """Build the parts and give their endpoints to the router. Nothing of it needs to be started or stopped."""
    db, name, router = core.db, core.server_name, core.router
    states = RoomStates(db)
    handshakes = Handshakes(db, rooms.pipeline, transport.key_ring, states, name, core.signing_key)
    router.add(JoinsApi(Templates(db, core.clock, name), handshakes, name))
    router.add(ServedEventsApi(ServedHistory(db), states, name, core.clock))
    router.add(SpacesApi(ServedSpaces(db)))
    router.add(QueriesApi(rooms.aliases, profiles, rooms.public_rooms, name))
