"""Files: uploading, downloading, thumbnails. spec: client-server-api#content-repository"""

from __future__ import annotations

from typing import Annotated, Any, Literal

import msgspec

from tinyserver.api.blob_answers import Content, serve_content
from tinyserver.api.calls import Call, NoBody, NoQuery
from tinyserver.api.rate_limits import Limit
from tinyserver.api.routing import Answer, Auth, Surface, endpoint
from tinyserver.media.names import clean_name, disposition
from tinyserver.media.repository import MediaRepository
from tinyserver.media.thumbnails import Thumbnails
from tinyserver.media.workshop import Size
from tinyserver.protocol.errors import NotFound

_SPEC = "client-server-api#content-repository"
_CLIENT = "/_matrix/client/v1/media"
_MEDIA = "/_matrix/media/v3"
_ID = "/{serverName}/{mediaId}"
MAX_WAIT_MS = 60_000

Milliseconds = Annotated[int, msgspec.Meta(ge=0)]


class UploadQuery(msgspec.Struct):
    """What the file is called."""

    filename: str | None = None


class DownloadQuery(msgspec.Struct):
    """How long to wait for the file (ms), and whether another server may be asked for it."""

    timeout_ms: Milliseconds = 20_000
    allow_remote: bool = True

    @property
    def wait(self) -> float:
        """Seconds to wait."""
        return min(self.timeout_ms, MAX_WAIT_MS) / 1000


class ThumbnailQuery(DownloadQuery, kw_only=True):
    """Which thumbnail."""

    width: int
    height: int
    method: Literal["crop", "scale"] = "scale"
    animated: bool = False

    @property
    def size(self) -> Size:
        """What is asked for."""
        return Size(self.width, self.height, self.method == "crop", self.animated)


class MediaApi:
    """The content repository chapter.

    :param repository: the files.
    :param thumbnails: the small pictures made of them.
    :param unauthenticated: whether the paths of before v1.11, which ask for no token, give files.
    """

    surface = Surface.MEDIA

    def __init__(self, repository: MediaRepository, thumbnails: Thumbnails, *, unauthenticated: bool) -> None:
        self._repository = repository
        self._thumbnails = thumbnails
        self._unauthenticated = unauthenticated

    @endpoint("POST", _MEDIA + "/upload", spec=_SPEC, auth=Auth.USER, query=UploadQuery, limit=Limit.MEDIA)
    async def upload(self, call: Call[NoBody, UploadQuery]) -> Answer:
        """Take in a file."""
        uri = await self._repository.upload(
            call.requester,
            call.headers.get("content-type"),
            call.query.filename,
            call.stream(self._repository.max_upload),
        )
        return {"content_uri": uri}

    @endpoint("POST", "/_matrix/media/v1/create", spec=_SPEC, auth=Auth.USER, limit=Limit.MEDIA)
    async def announce(self, call: Call[NoBody, NoQuery]) -> Answer:
        """A URI whose file comes later."""
        uri, expires = await self._repository.announce(call.requester)
        return {"content_uri": uri, "unused_expires_at": expires}

    @endpoint("PUT", _MEDIA + "/upload" + _ID, spec=_SPEC, auth=Auth.USER, query=UploadQuery, limit=Limit.MEDIA)
    async def fill(self, call: Call[NoBody, UploadQuery]) -> Answer:
        """Take in the file of a URI that was announced."""
        await self._repository.fill(
            call.requester,
            call.path["serverName"],
            call.path["mediaId"],
            call.headers.get("content-type"),
            call.query.filename,
            call.stream(self._repository.max_upload),
        )
        return {}

    @endpoint("GET", _CLIENT + "/config", spec=_SPEC, auth=Auth.USER, guests=True, limit=Limit.MEDIA)
    @endpoint("GET", _MEDIA + "/config", spec=_SPEC, auth=Auth.USER, guests=True, limit=Limit.MEDIA)
    async def config(self, call: Call[NoBody, NoQuery]) -> Answer:
        """How large uploads may be."""
        return {"m.upload.size": self._repository.max_upload}

    @endpoint(
        "GET",
        _CLIENT + "/download" + _ID,
        spec=_SPEC,
        auth=Auth.USER,
        query=DownloadQuery,
        limit=Limit.MEDIA,
        guests=True,
    )
    @endpoint(
        "GET",
        _CLIENT + "/download" + _ID + "/{fileName}",
        spec=_SPEC,
        auth=Auth.USER,
        query=DownloadQuery,
        limit=Limit.MEDIA,
        guests=True,
    )
    async def download(self, call: Call[NoBody, DownloadQuery]) -> Answer:
        """A file."""
        return await self._download(call)

    @endpoint("GET", _MEDIA + "/download" + _ID, spec=_SPEC, auth=Auth.NONE, query=DownloadQuery, limit=Limit.MEDIA)
    @endpoint(
        "GET",
        _MEDIA + "/download" + _ID + "/{fileName}",
        spec=_SPEC,
        auth=Auth.NONE,
        query=DownloadQuery,
        limit=Limit.MEDIA,
    )
    async def frozen_download(self, call: Call[NoBody, DownloadQuery]) -> Answer:
        """A file, where this server still gives files to those who do not say who they are."""
        self._check_unauthenticated()
        return await self._download(call)

    @endpoint(
        "GET",
        _CLIENT + "/thumbnail" + _ID,
        spec=_SPEC,
        auth=Auth.USER,
        query=ThumbnailQuery,
        limit=Limit.MEDIA,
        guests=True,
    )
    async def thumbnail(self, call: Call[NoBody, ThumbnailQuery]) -> Answer:
        """A thumbnail."""
        return await self._thumbnail(call)

    @endpoint("GET", _MEDIA + "/thumbnail" + _ID, spec=_SPEC, auth=Auth.NONE, query=ThumbnailQuery, limit=Limit.MEDIA)
    async def frozen_thumbnail(self, call: Call[NoBody, ThumbnailQuery]) -> Answer:
        """A thumbnail, where this server still gives files to those who do not say who they are."""
        self._check_unauthenticated()
        return await self._thumbnail(call)

    def _check_unauthenticated(self) -> None:
        if not self._unauthenticated:
            raise NotFound("This server gives files only to those who are logged in, at /_matrix/client/v1/media")

    async def _download(self, call: Call[Any, DownloadQuery]) -> Answer:
        path, query = call.path, call.query
        found = await self._repository.find(
            path["serverName"], path["mediaId"], wait=query.wait, allow_remote=query.allow_remote
        )
        name = clean_name(path["fileName"]) if "fileName" in path else found.row.file_name
        kind = found.row.content_type
        return serve_content(self._repository, Content(found.digest, kind, disposition(kind, name)))

    async def _thumbnail(self, call: Call[Any, ThumbnailQuery]) -> Answer:
        path, query = call.path, call.query
        found = await self._repository.find(
            path["serverName"], path["mediaId"], wait=query.wait, allow_remote=query.allow_remote
        )
        made = await self._thumbnails.of(found, query.size)
        return serve_content(self._repository, Content(made.digest, made.content_type, thumbnail_disposition(made)))


def thumbnail_disposition(made: Any) -> str:
    """The Content-Disposition header of a thumbnail."""
    return f'inline; filename="thumbnail.{made.content_type.removeprefix("image/")}"'
