"""What the command line asks of a running server about application services."""

from __future__ import annotations

from dataclasses import asdict

import msgspec

from tinyserver.api.calls import Call, NoBody, NoQuery
from tinyserver.api.routing import Answer, Auth, Surface, endpoint
from tinyserver.appservices.overview import ServicesOverview
from tinyserver.appservices.registration import MAX_BYTES, RegistrationError
from tinyserver.appservices.services import Services
from tinyserver.protocol.errors import InvalidParam, NotFound

SERVICES = "/_tinyserver/local/appservices"


class NewService(msgspec.Struct):
    """The text of a registration file."""

    registration: str


class LocalAppservicesApi:
    """A part of the local socket."""

    surface = Surface.ADMIN

    def __init__(self, services: Services, overview: ServicesOverview) -> None:
        self._services = services
        self._overview = overview

    @endpoint(
        "POST",
        SERVICES,
        spec="tinyserver#local-socket",
        auth=Auth.NONE,
        body=NewService,
        max_body=6 * MAX_BYTES,  # JSON may need six characters for one
    )
    async def add(self, call: Call[NewService, NoQuery]) -> Answer:
        """Register a service, or give one another registration."""
        try:
            service = await self._services.add(call.body.registration)
        except RegistrationError as error:
            raise InvalidParam(str(error)) from error
        return {"id": service.id, "user": service.sender}

    @endpoint("GET", SERVICES, spec="tinyserver#local-socket", auth=Auth.NONE)
    async def list_services(self, call: Call[NoBody, NoQuery]) -> Answer:
        """All services."""
        return {"services": [asdict(state) for state in await self._overview.services()]}

    @endpoint("DELETE", SERVICES + "/{id}", spec="tinyserver#local-socket", auth=Auth.NONE)
    async def remove(self, call: Call[NoBody, NoQuery]) -> Answer:
        """Forget a service."""
        try:
            is_known = await self._services.remove(call.path["id"])
        except RegistrationError as error:
            raise InvalidParam(str(error)) from error
        if not is_known:
            raise NotFound("There is no such application service.")
        return {}
