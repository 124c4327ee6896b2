"""All commands there are, by group: what the command line knows of them before it has a server to give them to."""

from __future__ import annotations

from tinyserver.administration.appservices import AppserviceCommands
from tinyserver.administration.commands import Command, declared
from tinyserver.administration.emails import EmailCommands
from tinyserver.administration.federation import FederationCommands
from tinyserver.administration.media import MediaCommands
from tinyserver.administration.notices import NoticeCommands
from tinyserver.administration.reports import ReportCommands
from tinyserver.administration.rooms import RoomCommands
from tinyserver.administration.server import ServerCommands
from tinyserver.administration.tokens import TokenCommands
from tinyserver.administration.users import UserCommands

GROUPS: dict[str, type] = {
    "user": UserCommands,
    "email": EmailCommands,
    "token": TokenCommands,
    "room": RoomCommands,
    "media": MediaCommands,
    "report": ReportCommands,
    "notice": NoticeCommands,
    "federation": FederationCommands,
    "appservice": AppserviceCommands,
    "server": ServerCommands,
}
"""The class of the commands that begin with a word."""


def commands_of(group: str) -> dict[str, Command]:
    """The commands of a group by their names."""
    return declared(GROUPS[group])
