"""Users of application services who are invited from other servers."""

from __future__ import annotations

import json
from pathlib import Path

from tinyserver.appservices.interests import Interests
from tinyserver.appservices.services import Services
from tinyserver.appservices.transactions import TransactionMaker
from tinyserver.federation.participation.invites import InboundInvites
from tinyserver.storage import accounts

from .test_participation_invites import NAME, invite
from .world import World

GHOST = "@irc_ghost:tiny.test"


class Maker:
    """Makes every user who is asked for."""

    def __init__(self, world: World) -> None:
        self._world = world

    async def user(self, user_id: str) -> bool:
        await self._world.db.write(lambda tx: accounts.add(tx, user_id, None, created=0))
        return True

    async def alias(self, alias: str) -> bool:
        return False


async def test_a_ghost_is_made_and_its_service_told(world: World, tmp_path: Path) -> None:
    registration = {
        "id": "irc",
        "url": "http://127.0.0.1:9",
        "as_token": "a",
        "hs_token": "b",
        "sender_localpart": "ircbot",
        "namespaces": {"users": [{"exclusive": True, "regex": "@irc_.*"}]},
    }
    file = tmp_path / "irc.yaml"
    file.write_text(json.dumps(registration))
    services = Services(world.db, world.clock, "tiny.test", [str(file)])
    await services.load()
    interests = Interests(services, "tiny.test")
    invites = InboundInvites(
        world.db, world.key_ring, "tiny.test", world.identity.key, [interests], on_demand=Maker(world)
    )
    peer = await world.peer()
    event_id, pdu = invite(peer, state_key=GHOST)
    await invites.receive(peer.name, pdu["room_id"], event_id, "11", pdu, [NAME])
    maker, (service,) = TransactionMaker(world.clock, interests), services.all
    made = await world.db.write(lambda tx: maker.next(tx, service, []))
    assert made is not None
    (told,) = json.loads(made.body)["events"]
    assert told["event_id"] == event_id
    assert told["room_id"] == pdu["room_id"]
    assert told["state_key"] == GHOST
    shown = told["unsigned"]["invite_room_state"]
    assert shown[0] == NAME
    assert shown[1]["content"] == {"membership": "invite"}
