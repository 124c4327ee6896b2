"""This server's files, for other servers. spec: server-server-api#content-repository"""

from __future__ import annotations

from tinyserver.api.blob_answers import Content, serve_parts
from tinyserver.api.calls import Call, NoBody
from tinyserver.api.client.media import DownloadQuery, ThumbnailQuery, thumbnail_disposition
from tinyserver.api.routing import Answer, Auth, Surface, endpoint
from tinyserver.media.names import disposition
from tinyserver.media.repository import FoundMedia, MediaRepository
from tinyserver.media.thumbnails import Thumbnails

_SPEC = "server-server-api#content-repository"
_V1 = "/_matrix/federation/v1/media"


class ServedMediaApi:
    """Gives this server's own files to other servers, never copies of other servers' files.

    :param repository: the files.
    :param thumbnails: the small pictures made of them.
    :param server_name: this server.
    """

    surface = Surface.FEDERATION

    def __init__(self, repository: MediaRepository, thumbnails: Thumbnails, server_name: str) -> None:
        self._repository = repository
        self._thumbnails = thumbnails
        self._server_name = server_name

    @endpoint("GET", _V1 + "/download/{mediaId}", spec=_SPEC, auth=Auth.SERVER, query=DownloadQuery)
    async def download(self, call: Call[NoBody, DownloadQuery]) -> Answer:
        """A file."""
        found = await self._find(call.path["mediaId"], call.query)
        kind = found.row.content_type
        return serve_parts(self._repository, Content(found.digest, kind, disposition(kind, found.row.file_name)))

    @endpoint("GET", _V1 + "/thumbnail/{mediaId}", spec=_SPEC, auth=Auth.SERVER, query=ThumbnailQuery)
    async def thumbnail(self, call: Call[NoBody, ThumbnailQuery]) -> Answer:
        """A thumbnail."""
        made = await self._thumbnails.of(await self._find(call.path["mediaId"], call.query), call.query.size)
        return serve_parts(self._repository, Content(made.digest, made.content_type, thumbnail_disposition(made)))

    async def _find(self, media_id: str, query: DownloadQuery) -> FoundMedia:
        return await self._repository.find(self._server_name, media_id, wait=query.wait, allow_remote=False)
