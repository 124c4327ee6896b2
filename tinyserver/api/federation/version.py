"""Which software this is. spec: server-server-api#server-implementation"""

from tinyserver.api.calls import Call, NoBody, NoQuery
from tinyserver.api.routing import Answer, Auth, Surface, endpoint
from tinyserver.version import NAME, VERSION


class VersionApi:
    """One question, asked by monitoring tools more than by servers."""

    surface = Surface.FEDERATION

    @endpoint(
        "GET",
        "/_matrix/federation/v1/version",
        spec="server-server-api#get_matrixfederationv1version",
        auth=Auth.NONE,
    )
    async def get_version(self, call: Call[NoBody, NoQuery]) -> Answer:
        """Name and version."""
        return {"server": {"name": NAME, "version": VERSION}}
