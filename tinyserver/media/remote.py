"""Files of other servers: fetched once for all who want them, however many these are.

spec: server-server-api#content-repository
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterable, AsyncIterator
from dataclasses import dataclass

from tinyserver.federation.client import FederationClient
from tinyserver.media.multipart import PartReader
from tinyserver.media.repository import MediaRepository
from tinyserver.outgoing.errors import AnswerMalformed, AnswerTooLarge, HttpError, OutgoingError, TimedOut
from tinyserver.outgoing.http import HttpClient, StreamedAnswer
from tinyserver.outgoing.targets import target_of_url
from tinyserver.protocol.errors import MatrixError, NotFound, NotYetUploaded, TooLarge
from tinyserver.protocol.request_auth import path_of

log = logging.getLogger(__name__)

TRANSFER_SECONDS = 600.0
"""For one file, from the question to its last byte."""
MAX_TRANSFERS = 8
"""Files that are fetched at the same time."""
_ASKED_TO_WAIT_MS = 20_000
_MAX_REDIRECTS = 3
_REDIRECTS = (301, 302, 303, 307, 308)


@dataclass(frozen=True, slots=True)
class _Arriving:
    """A file whose bytes are on their way."""

    content_type: str | None
    disposition: str | None
    content: AsyncIterable[bytes]


class RemoteMedia:
    """Gets files of other servers into the repository.

    Args:
        repository: takes the copies in.
        client: asks the other servers.
        http: follows where they say that a file lies elsewhere.
        max_bytes: the largest file.
    """

    def __init__(self, repository: MediaRepository, client: FederationClient, http: HttpClient, max_bytes: int) -> None:
        self._repository = repository
        self._client = client
        self._http = http
        self._max_bytes = max_bytes
        self._transfers: dict[tuple[str, str], asyncio.Task[None]] = {}
        self._turns = asyncio.Semaphore(MAX_TRANSFERS)

    async def fetch(self, origin: str, media_id: str, timeout: float) -> None:
        """Have a copy taken in; see `tinyserver.media.repository.Elsewhere`.

        Raises:
            NotFound: the other server says that there is none.
            NotYetUploaded: it is not there in time.
            TooLarge: it is larger than what is taken (502).
            MatrixError: the other server does not give it (502).
        """
        key = (origin, media_id)
        transfer = self._transfers.get(key)
        if transfer is None:
            transfer = self._transfers[key] = asyncio.create_task(self._transfer(origin, media_id))
            transfer.add_done_callback(lambda task: self._done(key, task))
        try:
            async with asyncio.timeout(timeout):
                await asyncio.shield(transfer)
        except TimeoutError as error:
            raise NotYetUploaded("The file is still on its way from the other server; ask again") from error
        except OutgoingError as error:
            raise _told(error) from error

    async def close(self) -> None:
        """End all transfers."""
        transfers = list(self._transfers.values())
        for transfer in transfers:
            transfer.cancel()
        await asyncio.gather(*transfers, return_exceptions=True)

    def _done(self, key: tuple[str, str], task: asyncio.Task[None]) -> None:
        del self._transfers[key]
        if not task.cancelled() and (error := task.exception()) is not None:
            log.info("mxc://%s/%s was not fetched: %s", *key, error)

    async def _transfer(self, origin: str, media_id: str) -> None:
        async with self._turns, contextlib.AsyncExitStack() as stack:
            try:
                arriving = await stack.enter_async_context(self._authenticated(origin, media_id))
            except HttpError as error:
                # A server from before v1.11, which has no such endpoint.
                if error.status not in (404, 405) or error.errcode not in (None, "M_UNRECOGNIZED"):
                    raise
                arriving = await stack.enter_async_context(self._unauthenticated(origin, media_id))
            name = _file_name(arriving.disposition)
            await self._repository.take_copy(origin, media_id, arriving.content_type, name, arriving.content)

    @contextlib.asynccontextmanager
    async def _authenticated(self, origin: str, media_id: str) -> AsyncIterator[_Arriving]:
        path = path_of("_matrix", "federation", "v1", "media", "download", media_id)
        query = {"timeout_ms": _ASKED_TO_WAIT_MS}
        async with self._client.stream("GET", origin, path, query=query, timeout=TRANSFER_SECONDS) as answer:
            parts = PartReader(answer.headers.get("content-type", ""), answer.chunks(self._max_bytes + 64 * 1024))
            headers = await parts.second()
            if "location" in headers:
                async with self._redirected(headers["location"]) as arriving:
                    yield arriving
                return
            content = _bounded(parts.content(), self._max_bytes)
            yield _Arriving(headers.get("content-type"), headers.get("content-disposition"), content)

    @contextlib.asynccontextmanager
    async def _unauthenticated(self, origin: str, media_id: str) -> AsyncIterator[_Arriving]:
        path = path_of("_matrix", "media", "v3", "download", origin, media_id)
        query = {"allow_remote": "false", "timeout_ms": str(_ASKED_TO_WAIT_MS)}
        async with self._client.stream(
            "GET", origin, path, query=query, timeout=TRANSFER_SECONDS, signed=False
        ) as answer:
            yield self._arriving(answer)

    @contextlib.asynccontextmanager
    async def _redirected(self, url: str) -> AsyncIterator[_Arriving]:
        """What lies at a URL that another server named, and at those that this one names in turn."""
        for _ in range(_MAX_REDIRECTS):
            target, path = target_of_url(url)
            if target.scheme != "https":
                raise AnswerMalformed("the file lies where it cannot be fetched safely")
            async with self._http.stream("GET", target, path, timeout=TRANSFER_SECONDS) as answer:
                if answer.status in _REDIRECTS and "location" in answer.headers:
                    url = answer.headers["location"]
                    continue
                if answer.status != 200:
                    raise HttpError(answer.status, None, "where the other server says that the file lies")
                yield self._arriving(answer)
                return
        raise AnswerMalformed(f"more than {_MAX_REDIRECTS} redirects")

    def _arriving(self, answer: StreamedAnswer) -> _Arriving:
        content = answer.chunks(self._max_bytes)
        return _Arriving(answer.headers.get("content-type"), answer.headers.get("content-disposition"), content)


async def _bounded(pieces: AsyncIterable[bytes], max_bytes: int) -> AsyncIterator[bytes]:
    size = 0
    async for piece in pieces:
        size += len(piece)
        if size > max_bytes:
            raise AnswerTooLarge(f"the file has more than {max_bytes} bytes")
        yield piece


def _file_name(disposition: str | None) -> str | None:
    """The name in a Content-Disposition header."""
    if disposition is None or len(disposition) > 2000:
        return None
    from email.message import Message

    message = Message()
    message["Content-Disposition"] = "".join(disposition.splitlines())
    return message.get_filename()


def _told(error: OutgoingError) -> MatrixError:
    """What a client is told of another server's failure."""
    if isinstance(error, AnswerTooLarge) or (isinstance(error, HttpError) and error.errcode == "M_TOO_LARGE"):
        return TooLarge("The file is larger than what this server takes", status=502)
    if isinstance(error, TimedOut) or (isinstance(error, HttpError) and error.errcode == "M_NOT_YET_UPLOADED"):
        return NotYetUploaded("The other server has not given the file in time")
    if isinstance(error, HttpError) and error.status in (403, 404, 410):
        return NotFound("The other server has no such file")
    return MatrixError("The other server cannot be asked for the file at the moment", status=502)
