"""Signing in by QR code: where the two devices meet. Two generations of the proposal are in use."""

from __future__ import annotations

from email.utils import formatdate
from typing import Any

import msgspec

from tinyserver.api.answers import FullAnswer
from tinyserver.api.calls import Call, NoBody, NoQuery
from tinyserver.api.public_url import PublicUrl
from tinyserver.api.rate_limits import Limit
from tinyserver.api.routing import Answer, Auth, Surface, endpoint
from tinyserver.oauth.rendezvous import MAX_CONTENT, Mailbox, Mailboxes, VersionConflict
from tinyserver.protocol.errors import ConcurrentWrite, Forbidden, InvalidParam, MissingParam, TooLarge, Unknown

UNSTABLE_FEATURES = {"org.matrix.msc4108": True, "io.element.msc4388": True}

_ETAGGED = "/_matrix/client/unstable/org.matrix.msc4108/rendezvous"
_STABLE = "/_matrix/client/v1/rendezvous"
_UNSTABLE = "/_matrix/client/unstable/io.element.msc4388/rendezvous"
_MAX_BODY = 32 * 1024  # JSON escapes make 4096 bytes longer


class EtaggedRendezvousApi:
    """The first generation: any text, and HTTP's own means against lost updates. spec: MSC4108"""

    surface = Surface.CLIENT

    def __init__(self, mailboxes: Mailboxes, public_url: PublicUrl) -> None:
        self._mailboxes = mailboxes
        self._public_url = public_url

    @endpoint("POST", _ETAGGED, spec="MSC4108", auth=Auth.NONE, limit=Limit.LOGIN_ADDRESS)
    async def create(self, call: Call[NoBody, NoQuery]) -> Answer:
        """A new mailbox; the answer says where it is."""
        if "content-length" not in call.headers:
            raise InvalidParam("The request must say its Content-Length.", status=411)
        mailbox = self._mailboxes.create(await _text(call))
        url = f"{self._public_url.of(call)}{_ETAGGED}/{mailbox.mailbox_id}"
        return FullAnswer(201, {"url": url}, _etag_headers(mailbox))

    @endpoint("GET", f"{_ETAGGED}/{{sessionId}}", spec="MSC4108", auth=Auth.NONE, limit=Limit.OTHER)
    async def get(self, call: Call[NoBody, NoQuery]) -> Answer:
        """The message, unless the client has it already."""
        mailbox = self._mailboxes.get(call.path["sessionId"])
        if mailbox.version in _versions(call, "if-none-match"):
            return FullAnswer(304, b"", _etag_headers(mailbox))
        return FullAnswer(200, mailbox.content, {**_etag_headers(mailbox), "Content-Type": "text/plain"})

    @endpoint("PUT", f"{_ETAGGED}/{{sessionId}}", spec="MSC4108", auth=Auth.NONE, limit=Limit.OTHER)
    async def put(self, call: Call[NoBody, NoQuery]) -> Answer:
        """Another message in place of the one that the client knows."""
        if "if-match" not in call.headers:
            raise MissingParam("The header If-Match is missing.")
        known = (_versions(call, "if-match") or [""])[0]
        content = await _text(call)
        try:
            mailbox = self._mailboxes.put(call.path["sessionId"], known, content)
        except VersionConflict as conflict:
            extra = {"org.matrix.msc4108.errcode": "M_CONCURRENT_WRITE"}
            headers = _etag_headers(self._mailboxes.get(call.path["sessionId"]))
            message = "Somebody else has written meanwhile."
            raise Unknown(message, status=412, extra=extra, headers=headers) from conflict
        return FullAnswer(202, b"", _etag_headers(mailbox))

    @endpoint("DELETE", f"{_ETAGGED}/{{sessionId}}", spec="MSC4108", auth=Auth.NONE, limit=Limit.OTHER)
    async def remove(self, call: Call[NoBody, NoQuery]) -> Answer:
        """The mailbox is not needed any more."""
        self._mailboxes.remove(call.path["sessionId"])
        return FullAnswer(204)


class NewMailboxBody(msgspec.Struct):
    """The first message."""

    data: str


class UpdateBody(msgspec.Struct):
    """Another message in place of the one with this token."""

    sequence_token: str
    data: str


class RendezvousApi:
    """The second generation, in JSON. spec: MSC4388"""

    surface = Surface.CLIENT

    def __init__(self, mailboxes: Mailboxes) -> None:
        self._mailboxes = mailboxes

    @endpoint("GET", _STABLE, spec="MSC4388", auth=Auth.OPTIONAL, limit=Limit.OTHER)
    @endpoint("GET", _UNSTABLE, spec="MSC4388", auth=Auth.OPTIONAL, limit=Limit.OTHER)
    async def is_available(self, call: Call[NoBody, NoQuery]) -> Answer:
        """Whether the caller may make a mailbox. Anybody may: a device that shows a code is not signed in yet."""
        return {"create_available": True}

    @endpoint("POST", _STABLE, spec="MSC4388", auth=Auth.OPTIONAL, body=NewMailboxBody, max_body=_MAX_BODY,
              limit=Limit.LOGIN_ADDRESS)  # fmt: skip
    @endpoint("POST", _UNSTABLE, spec="MSC4388", auth=Auth.OPTIONAL, body=NewMailboxBody, max_body=_MAX_BODY,
              limit=Limit.LOGIN_ADDRESS)  # fmt: skip
    async def create(self, call: Call[NewMailboxBody, NoQuery]) -> Answer:
        """A new mailbox."""
        mailbox = self._mailboxes.create(_encoded(call.body.data))
        return {"id": mailbox.mailbox_id, **self._described(mailbox)}

    @endpoint("GET", f"{_STABLE}/{{rendezvousId}}", spec="MSC4388", auth=Auth.NONE, limit=Limit.OTHER)
    @endpoint("GET", f"{_UNSTABLE}/{{rendezvousId}}", spec="MSC4388", auth=Auth.NONE, limit=Limit.OTHER)
    async def get(self, call: Call[NoBody, NoQuery]) -> Answer:
        """The message; not for a person who follows a link."""
        _refuse_navigation(call.headers)
        mailbox = self._mailboxes.get(call.path["rendezvousId"])
        return {"data": mailbox.content.decode("utf-8"), **self._described(mailbox)}

    @endpoint("PUT", f"{_STABLE}/{{rendezvousId}}", spec="MSC4388", auth=Auth.NONE, body=UpdateBody,
              max_body=_MAX_BODY, limit=Limit.OTHER)  # fmt: skip
    @endpoint("PUT", f"{_UNSTABLE}/{{rendezvousId}}", spec="MSC4388", auth=Auth.NONE, body=UpdateBody,
              max_body=_MAX_BODY, limit=Limit.OTHER)  # fmt: skip
    async def put(self, call: Call[UpdateBody, NoQuery]) -> Answer:
        """Another message. One that is there already was sent twice, and is taken."""
        content = _encoded(call.body.data)
        mailbox_id = call.path["rendezvousId"]
        try:
            mailbox = self._mailboxes.put(mailbox_id, call.body.sequence_token, content)
        except VersionConflict as conflict:
            mailbox = self._mailboxes.get(mailbox_id)
            if mailbox.content != content:
                error = ConcurrentWrite("Somebody else has written meanwhile.", status=409)
                if not call.scope["path"].startswith(_STABLE):
                    error.errcode = "IO_ELEMENT_MSC4388_CONCURRENT_WRITE"
                raise error from conflict
        return {"sequence_token": mailbox.version}

    @endpoint("DELETE", f"{_STABLE}/{{rendezvousId}}", spec="MSC4388", auth=Auth.NONE, limit=Limit.OTHER)
    @endpoint("DELETE", f"{_UNSTABLE}/{{rendezvousId}}", spec="MSC4388", auth=Auth.NONE, limit=Limit.OTHER)
    async def remove(self, call: Call[NoBody, NoQuery]) -> Answer:
        """The mailbox is not needed any more."""
        self._mailboxes.remove(call.path["rendezvousId"])
        return {}

    def _described(self, mailbox: Mailbox) -> dict[str, Any]:
        return {"sequence_token": mailbox.version, "expires_in_ms": self._mailboxes.remaining_ms(mailbox)}


async def _text(call: Call[NoBody, NoQuery]) -> bytes:
    if call.headers.get("content-type", "").partition(";")[0].strip().lower() != "text/plain":
        raise InvalidParam("The Content-Type must be text/plain.")
    return b"".join([piece async for piece in call.stream(MAX_CONTENT)])


def _encoded(data: str) -> bytes:
    """The message in bytes. Raises TooLarge, InvalidParam."""
    if len(data) > MAX_CONTENT:
        raise TooLarge(f"A rendezvous holds no more than {MAX_CONTENT} bytes.")
    try:
        return data.encode("utf-8")
    except UnicodeEncodeError as error:
        raise InvalidParam("'data' is no valid Unicode.") from error


def _versions(call: Call[NoBody, NoQuery], header: str) -> list[str]:
    return [tag.strip().removeprefix("W/").strip('"') for tag in call.headers.get(header, "").split(",")]


def _etag_headers(mailbox: Mailbox) -> dict[str, str]:
    return {
        "ETag": f'"{mailbox.version}"',
        "Expires": formatdate(mailbox.expires / 1000, usegmt=True),
        "Last-Modified": formatdate(mailbox.modified / 1000, usegmt=True),
        "Cache-Control": "no-store, no-transform",
        "Pragma": "no-cache",
        "Access-Control-Expose-Headers": "ETag",
    }


def _refuse_navigation(headers: dict[str, str]) -> None:
    """Raises Forbidden for a request that a browser makes to show a page."""
    if (
        headers.get("sec-fetch-dest", "empty") != "empty"
        or headers.get("sec-fetch-mode") == "navigate"
        or headers.get("sec-fetch-user") == "?1"
        or headers.get("sec-fetch-site") == "none"
    ):
        raise Forbidden("This is for programs, not for a browser's window.")
