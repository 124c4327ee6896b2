"""Commands about application services: bridges and bots."""

from __future__ import annotations

from tinyserver.administration.commands import Argument, Caller, Kind, Reply, command
from tinyserver.administration.rendering import moment
from tinyserver.appservices.overview import ServicesOverview, ServiceState
from tinyserver.appservices.registration import RegistrationError
from tinyserver.appservices.services import Services
from tinyserver.protocol.errors import Forbidden, InvalidParam, NotFound


class AppserviceCommands:
    """Application services: registering, showing and removing them.

    Args:
        services: keeps them.
        overview: looks at what they lack.
    """

    def __init__(self, services: Services, overview: ServicesOverview) -> None:
        self._services = services
        self._overview = overview

    @command(
        "appservice add",
        "register a bridge, or give it another registration",
        Argument("file", "its registration file (YAML), as the bridge generates it", Kind.FILE),
    )
    async def add(self, caller: Caller, file: str) -> Reply:
        """Register a service by the text of its file."""
        _check_owner(caller)
        try:
            service = await self._services.add(file)
        except RegistrationError as error:
            raise InvalidParam(f"The registration cannot be used: {error}") from error
        return Reply(f"{service.id} is registered; its user is {service.sender}")

    @command(
        "appservice remove",
        "forget a bridge and what it is owed; the accounts that it made stay",
        Argument("id", "its ID, as in its registration"),
    )
    async def remove(self, caller: Caller, id: str) -> Reply:
        """Forget a service."""
        _check_owner(caller)
        try:
            is_known = await self._services.remove(id)
        except RegistrationError as error:
            raise InvalidParam(str(error)) from error
        if not is_known:
            raise NotFound("There is no such application service.")
        return Reply(f"{id} is not registered any more")

    @command("appservice list", "show all bridges, what each lacks, and why it fails")
    async def list_services(self, caller: Caller) -> Reply:
        """All services; administrators register them, so they are few."""
        states = await self._overview.services()
        return Reply("\n".join(map(_described, states)) or "No application service is registered.")


def _check_owner(caller: Caller) -> None:
    """A service may act for people, and is asked wherever it says that it listens: the owner of the machine decides."""
    if caller.requester is not None:
        raise Forbidden("Application services are registered on the command line of the server.")


def _described(state: ServiceState) -> str:
    told = f"{state.id}  {state.user}, {state.url or 'listens nowhere'}"
    if state.events:
        told += f", lacks {state.events} events"
    if state.oldest_ts is not None:
        told += f", the oldest of {moment(state.oldest_ts)}"
    if state.error is not None:
        told += f"; fails ({state.error})"
    return told + ("  [from the configuration]" if state.is_configured else "")
