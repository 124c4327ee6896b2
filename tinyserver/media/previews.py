"""Previews of links: what a page says of itself, with its picture kept here.

Pages are fetched for strangers' links, so nothing of it may reach into the server's own network: the connections are
made by a client of its own, which knows public addresses only and looks at the address that it connects to, after every
redirect anew.

spec: client-server-api#get_matrixclientv1mediapreview_url
"""

from __future__ import annotations

import asyncio
import base64
import json
from collections import OrderedDict
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from email.message import Message
from typing import Any
from urllib.parse import quote, urljoin, urlsplit, urlunsplit

from tinyserver.media.repository import MediaRepository
from tinyserver.media.worker_process import WorkerDied, WorkerProcess
from tinyserver.media.workshop import WorkFailed, Workshop
from tinyserver.outgoing.errors import OutgoingError
from tinyserver.outgoing.http import Answer, HttpClient
from tinyserver.protocol.errors import Forbidden, InvalidParam, LimitExceeded, Unknown

MAX_URL = 2048
MAX_PAGE = 3 * 1024 * 1024
MAX_PICTURE = 10 * 1024 * 1024
MAX_OEMBED = 128 * 1024
PAGE_SECONDS = 15.0
MAX_REDIRECTS = 5
MAX_AT_ONCE = 3
MAX_WAITING = 30
KEPT_SECONDS = 3600.0
MAX_KEPT = 200
"""Previews in memory, some kB each."""
_PAGES = ("text/html", "application/xhtml+xml")
_OEMBED = {"title": "og:title", "provider_name": "og:site_name", "thumbnail_url": "og:image"}


@dataclass(frozen=True, slots=True)
class _Kept:
    """A preview as JSON, and until when it is good (monotonic seconds)."""

    text: bytes
    until: float


class Previews:
    """Makes previews.

    Args:
        http: reaches public addresses only.
        repository: keeps their pictures, as copies that go when there is no more room.
        workshop: measures the pictures.
        enabled: whether there are previews at all.
        blocked: domains of which there are none.
        monotonic: seconds of a clock that only runs forward.
    """

    def __init__(
        self,
        http: HttpClient,
        repository: MediaRepository,
        workshop: Workshop,
        *,
        enabled: bool,
        blocked: tuple[str, ...],
        monotonic: Callable[[], float],
    ) -> None:
        self._http = http
        self._repository = repository
        self._workshop = workshop
        self._enabled = enabled
        self._blocked = tuple(domain.lower().strip(".") for domain in blocked)
        self._monotonic = monotonic
        self._pages = WorkerProcess("tinyserver.media.page_worker")
        # By URL and languages.
        self._kept: OrderedDict[tuple[str, str], _Kept] = OrderedDict()
        self._making: dict[tuple[str, str], asyncio.Task[bytes]] = {}
        self._turns = asyncio.Semaphore(MAX_AT_ONCE)

    async def of(self, url: str, language: str) -> bytes:
        """What a page says of itself, as a JSON object.

        Args:
            language: which languages are preferred, as an Accept-Language header.

        Raises:
            Forbidden: there are no previews, or none of this domain.
            InvalidParam: it is no URL that can be looked at.
            Unknown: it cannot be looked at now (502).
            LimitExceeded: too many are waited for.
        """
        if not self._enabled:
            raise Forbidden("This server makes no previews of links")
        url = self._checked(url)
        key = (url, language)
        kept = self._kept.get(key)
        if kept is not None and kept.until > self._monotonic():
            return kept.text
        making = self._making.get(key)
        if making is None:
            if len(self._making) >= MAX_WAITING:
                raise LimitExceeded(2000, "Many links are being looked at")
            making = self._making[key] = asyncio.create_task(self._make(url, language))
            making.add_done_callback(lambda task: self._made(key, task))
        try:
            return await asyncio.shield(making)
        except OutgoingError as error:
            raise Unknown("The page cannot be looked at", status=502) from error

    async def close(self) -> None:
        """End what is being done."""
        tasks = list(self._making.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self._pages.close()
        await self._http.close()

    def _checked(self, url: str) -> str:
        """The URL in ASCII, without its fragment."""
        try:
            parts = urlsplit(url.strip())
            host = (parts.hostname or "").encode("idna").decode()
            port = f":{parts.port}" if parts.port else ""
        except ValueError as error:
            raise InvalidParam("This is no URL") from error
        if len(url) > MAX_URL or parts.scheme not in ("http", "https") or not host or parts.username is not None:
            raise InvalidParam("Only http and https URLs have previews")
        if any(host == domain or host.endswith(f".{domain}") for domain in self._blocked):
            raise Forbidden("This server makes no previews of this domain")
        netloc = (f"[{host}]" if ":" in host else host) + port
        safe = "/%:@!$&'()*+,;=-._~"
        return urlunsplit((parts.scheme, netloc, quote(parts.path or "/", safe), quote(parts.query, safe + "?"), ""))

    def _linked(self, page: str, link: str) -> str:
        """The URL of what a page links to. Raises InvalidParam and Forbidden."""
        try:
            return self._checked(urljoin(page, link))
        except ValueError as error:
            raise InvalidParam("The page has a link that is no URL") from error

    def _made(self, key: tuple[str, str], task: asyncio.Task[bytes]) -> None:
        del self._making[key]
        if not task.cancelled() and task.exception() is None:
            self._kept[key] = _Kept(task.result(), self._monotonic() + KEPT_SECONDS)
            self._kept.move_to_end(key)
            if len(self._kept) > MAX_KEPT:
                self._kept.popitem(last=False)

    async def _make(self, url: str, language: str) -> bytes:
        async with self._turns:
            answer = await self._get(url, MAX_PAGE, language)
            kind = answer.headers.get("content-type", "").partition(";")[0].strip().lower()
            found: dict[str, Any] = {}
            if answer.status == 200 and kind in _PAGES:
                found = await self._page(url, answer, language)
            elif answer.status == 200 and kind.startswith("image/"):
                found = await self._picture(url, answer)
            return json.dumps(found).encode()

    async def _get(self, url: str, max_bytes: int, language: str) -> Answer:
        headers = {"Accept-Language": language} if language else {}
        return await self._http.fetch(
            url, headers=headers, timeout=PAGE_SECONDS, max_bytes=max_bytes, max_redirects=MAX_REDIRECTS
        )

    async def _page(self, url: str, page: Answer, language: str) -> dict[str, Any]:
        message = Message()
        message["Content-Type"] = "".join(page.headers.get("content-type", "").splitlines())
        content = base64.b64encode(page.body).decode()
        try:
            told = await self._pages.ask({"content": content, "charset": message.get_content_charset()})
        except WorkerDied:
            return {}
        found: dict[str, Any] = told.get("og", {})
        if told.get("oembed"):
            for key, value in (await self._oembed(url, told["oembed"], language)).items():
                found.setdefault(key, value)
        picture = found.pop("og:image:secure_url", None) or found.pop("og:image:url", None) or found.get("og:image")
        for key in [key for key in found if key.startswith("og:image")]:
            del found[key]
        if picture:
            found |= await self._picture_at(url, picture, language)
        return found

    async def _oembed(self, page: str, link: str, language: str) -> dict[str, str]:
        """What a page says by oEmbed, in the words of OpenGraph."""
        try:
            told = json.loads((await self._get(self._linked(page, link), MAX_OEMBED, language)).body)
        except (OutgoingError, ValueError, RecursionError, InvalidParam, Forbidden):
            return {}
        if not isinstance(told, dict):
            return {}
        found = {_OEMBED[key]: value for key, value in told.items() if key in _OEMBED}
        if told.get("type") == "photo":
            found["og:image"] = told.get("url")
        return {key: value[:MAX_URL] for key, value in found.items() if isinstance(value, str) and value}

    async def _picture_at(self, page: str, link: str, language: str) -> dict[str, Any]:
        try:
            url = self._linked(page, link)
            return await self._picture(url, await self._get(url, MAX_PICTURE, language))
        except (OutgoingError, InvalidParam, Forbidden):
            return {}

    async def _picture(self, url: str, answer: Answer) -> dict[str, Any]:
        """A picture, kept here, in the words of OpenGraph."""
        if answer.status != 200:
            return {}
        incoming = await self._repository.blobs.receive(_whole(answer.body))
        try:
            measured = await self._workshop.measure(incoming.path)
            name = urlsplit(url).path.rpartition("/")[2]
            uri = await self._repository.keep_picture(incoming, measured.content_type, name)
        except (WorkFailed, LimitExceeded):
            return {}
        finally:
            await incoming.discard()
        return {
            "og:image": uri,
            "og:image:type": measured.content_type,
            "og:image:width": measured.width,
            "og:image:height": measured.height,
            "matrix:image:size": len(answer.body),
        }


async def _whole(content: bytes) -> AsyncIterator[bytes]:
    yield content
