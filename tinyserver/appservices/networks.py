"""The networks that services bridge to: what can be found there, and lists of rooms.

spec: client-server-api#third-party-networks, application-service-api#third-party-networks
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Any
from urllib.parse import quote

import msgspec
import orjson

from tinyserver.accounts.requester import Requester
from tinyserver.appservices.client import ServiceClient
from tinyserver.appservices.services import Service, Services
from tinyserver.outgoing.errors import OutgoingError
from tinyserver.protocol.errors import Forbidden, InvalidParam, NotFound
from tinyserver.rooms.access import known_room
from tinyserver.storage import appservices
from tinyserver.storage.database import Database
from tinyserver.storage.transaction import WriteTransaction

TIMEOUT = 10.0
KEPT = 60.0
"""Seconds for which a service's description of a network is kept."""
KEPT_NOTHING = 10.0
MAX_FOUND = 1000
MAX_NETWORK_ID = 255

Found = dict[str, Any]


class _Instance(msgspec.Struct):
    desc: str
    fields: dict[str, Any]
    network_id: str


class _Protocol(msgspec.Struct):
    user_fields: list[str]
    location_fields: list[str]
    field_types: dict[str, dict[str, Any]]
    instances: list[dict[str, Any]]
    icon: str = ""


class _Result(msgspec.Struct):
    protocol: str
    fields: dict[str, Any]
    alias: str | None = None
    userid: str | None = None


class Networks:
    """Asks services, and puts their answers together.

    Args:
        monotonic: seconds.
    """

    def __init__(self, db: Database, services: Services, client: ServiceClient, monotonic: Callable[[], float]) -> None:
        self._db = db
        self._services = services
        self._client = client
        self._monotonic = monotonic
        self._known: dict[tuple[int, str], tuple[float, Found | None]] = {}
        """Until when a description is kept, by service and protocol."""
        services.on_change.append(self._known.clear)

    # -- protocols -------------------------------------------------------------------------------

    async def protocols(self) -> dict[str, Found]:
        """All protocols that some service can describe, by their IDs."""
        names = dict.fromkeys(name for service in self._services.listening for name in service.registration.protocols)
        described = await asyncio.gather(*map(self._protocol, names))
        return {name: found for name, found in zip(names, described, strict=True) if found is not None}

    async def protocol(self, name: str) -> Found:
        """A protocol. Raises NotFound."""
        found = await self._protocol(name)
        if found is None:
            raise NotFound("There is no such protocol.")
        return found

    async def _protocol(self, name: str) -> Found | None:
        """What the services say of a protocol, with the instances of all of them."""
        told = await asyncio.gather(*(self._described(service, name) for service in self._of_protocol(name)))
        found = [each for each in told if each is not None]
        if not found:
            return None
        return {**found[0], "instances": [instance for each in found for instance in each["instances"]]}

    async def _described(self, service: Service, name: str) -> Found | None:
        key = (service.nid, name)
        until, known = self._known.get(key, (0.0, None))
        if until > self._monotonic():
            return known
        answer = await self._ask(service, f"/protocol/{quote(name, safe='')}", [])
        found = _checked_protocol(service, answer)
        self._known[key] = (self._monotonic() + (KEPT_NOTHING if found is None else KEPT), found)
        return found

    # -- users and locations ---------------------------------------------------------------------

    async def find(self, kind: str, protocol: str, fields: Sequence[tuple[str, str]]) -> list[Found]:
        """Users or locations of a network.

        Args:
            kind: `user` or `location`.
            fields: what they are searched by.

        Raises:
            NotFound: there is no such protocol, or nothing was found.
        """
        return await self._gather(self._of_protocol(protocol), kind, f"/{kind}/{quote(protocol, safe='')}", fields)

    async def of_alias(self, alias: str) -> list[Found]:
        """The locations that a room alias leads to. Raises NotFound."""
        return await self._gather(self._all(), "location", "/location", [("alias", alias)])

    async def of_user(self, user_id: str) -> list[Found]:
        """The users of networks whom a user ID stands for. Raises NotFound."""
        return await self._gather(self._all(), "user", "/user", [("userid", user_id)])

    async def _gather(
        self, services: Sequence[Service], kind: str, path: str, query: Sequence[tuple[str, str]]
    ) -> list[Found]:
        answers = await asyncio.gather(*(self._ask(service, path, query) for service in services))
        found = [result for answer in answers for result in _checked_results(kind, answer)][:MAX_FOUND]
        if not found:
            raise NotFound("Nothing was found.")
        return found

    # -- lists of rooms --------------------------------------------------------------------------

    def instance(self, instance_id: str) -> tuple[int, str] | None:
        """The service (nid) and the network of an instance of a protocol; None: there is no such service."""
        service_id, _, network = instance_id.partition("|")
        service = self._services.find(service_id)
        return None if service is None or not network else (service.nid, network)

    async def list_room(self, requester: Requester, network: str, room_id: str, listed: bool) -> None:
        """Put a room into a service's list for one of its networks, or take it out.

        Raises:
            Forbidden: the requester is no service.
            InvalidParam: that cannot be the ID of a network.
            NotFound: this server does not know the room.
        """
        service = None if requester.appservice is None else self._services.find(requester.appservice)
        if service is None:
            raise Forbidden("Only application services have such lists.")
        if len(network) > MAX_NETWORK_ID:
            raise InvalidParam(f"The ID of a network has at most {MAX_NETWORK_ID} characters.")

        def step(tx: WriteTransaction) -> None:
            room = known_room(tx, room_id)
            if listed:
                appservices.list_room(tx, service.nid, network, room.nid)
            else:
                appservices.unlist_room(tx, service.nid, network, room.nid)

        await self._db.write(step)

    # -- asking ----------------------------------------------------------------------------------

    def _all(self) -> list[Service]:
        return [service for service in self._services.listening if service.registration.protocols]

    def _of_protocol(self, name: str) -> list[Service]:
        return [service for service in self._services.listening if name in service.registration.protocols]

    async def _ask(self, service: Service, path: str, query: Sequence[tuple[str, str]]) -> Any:
        """The JSON that a service answers with; None where it gives no good answer."""
        path = f"/thirdparty{path}"
        try:
            answer = await self._client.ask(
                service, "GET", path, query=list(query), old_path=f"/_matrix/app/unstable{path}", timeout=TIMEOUT
            )
            return orjson.loads(answer.body)
        except (OutgoingError, orjson.JSONDecodeError):
            return None


def _checked_protocol(service: Service, answer: Any) -> Found | None:
    """A description as clients get it, None where the answer is none. An instance says by what its rooms are listed."""
    try:
        described = msgspec.convert(answer, _Protocol)
        for each in described.instances:
            msgspec.convert(each, _Instance)
    except msgspec.ValidationError:
        return None
    instances = [{**each, "instance_id": f"{service.id}|{each['network_id']}"} for each in described.instances]
    return {**answer, "icon": described.icon, "instances": instances}


def _checked_results(kind: str, answer: Any) -> list[Found]:
    """Those of a service's results that are well-formed."""
    found = []
    for each in answer[:MAX_FOUND] if isinstance(answer, list) else ():
        try:
            result = msgspec.convert(each, _Result)
        except msgspec.ValidationError:
            continue
        if (result.alias if kind == "location" else result.userid) is not None:
            found.append(each)
    return found
