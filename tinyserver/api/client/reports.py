"""Reporting what is inappropriate, and reading the reports.

spec: client-server-api#reporting-content
"""

from __future__ import annotations

from dataclasses import asdict

import msgspec

from tinyserver.api.calls import Call, NoBody, NoQuery
from tinyserver.api.rate_limits import Limit
from tinyserver.api.routing import Answer, Auth, Surface, endpoint
from tinyserver.rooms.reports import Reports


class EventReport(msgspec.Struct):
    """Why an event is reported."""

    reason: str | None = None


class Report(msgspec.Struct):
    """Why a room or a user is reported."""

    reason: str


class ReportsApi:
    """What users report."""

    surface = Surface.CLIENT

    def __init__(self, reports: Reports) -> None:
        self._reports = reports

    @endpoint(
        "POST",
        "/_matrix/client/v3/rooms/{roomId}/report/{eventId}",
        spec="client-server-api#post_matrixclientv3roomsroomidreporteventid",
        auth=Auth.USER,
        body=EventReport,
        limit=Limit.REPORT,
    )
    async def report_event(self, call: Call[EventReport, NoQuery]) -> Answer:
        """Report an event."""
        await self._reports.event(call.requester, call.path["roomId"], call.path["eventId"], call.body.reason)
        return {}

    @endpoint(
        "POST",
        "/_matrix/client/v3/rooms/{roomId}/report",
        spec="client-server-api#post_matrixclientv3roomsroomidreport",
        auth=Auth.USER,
        body=Report,
        limit=Limit.REPORT,
    )
    async def report_room(self, call: Call[Report, NoQuery]) -> Answer:
        """Report a room."""
        await self._reports.room(call.requester, call.path["roomId"], call.body.reason)
        return {}

    @endpoint(
        "POST",
        "/_matrix/client/v3/users/{userId}/report",
        spec="client-server-api#post_matrixclientv3usersuseridreport",
        auth=Auth.USER,
        body=Report,
        limit=Limit.REPORT,
    )
    async def report_user(self, call: Call[Report, NoQuery]) -> Answer:
        """Report a user."""
        await self._reports.user(call.requester, call.path["userId"], call.body.reason)
        return {}


class ReportsQuery(msgspec.Struct):
    """Which reports: the newest, or those before a number."""

    before: int | None = None
    limit: int = 100


class ReadReportsApi:
    """What administrators read."""

    surface = Surface.ADMIN

    def __init__(self, reports: Reports) -> None:
        self._reports = reports

    @endpoint(
        "GET",
        "/_tinyserver/admin/v1/reports",
        spec="tinyserver#reports",
        auth=Auth.ADMIN,
        query=ReportsQuery,
    )
    async def newest(self, call: Call[NoBody, ReportsQuery]) -> Answer:
        """The newest reports."""
        return {"reports": [asdict(row) for row in await self._reports.newest(call.query.before, call.query.limit)]}
