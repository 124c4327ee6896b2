"""One user of a homeserver over HTTP, as the from-outside tests need it.

It imports nothing of the server: what the tests see is what any client sees.
"""

from __future__ import annotations

import hashlib
import hmac
import itertools
import json as jsonlib
import time
from collections.abc import Callable, Collection, Mapping
from typing import Any
from urllib.parse import quote

import httpx

from tests.answer_schemas import check_answer

SHARED_SECRET = "the-secret-that-only-tests-know"

Json = Any


class Client:
    """One user's (or nobody's) view of a homeserver.

    Every answer is held against the schema that the specification has for it, unless `checked` is False.
    Paths that start with `/_` or `/.` are taken as they stand, all others are below `/_matrix/client/v3`. Every call
    checks the status (AssertionError with the whole answer if it differs) and returns the decoded JSON body.
    """

    _transactions = itertools.count(1)

    def __init__(
        self,
        base_url: str,
        access_token: str | None = None,
        *,
        user_id: str = "",
        device_id: str = "",
        password: str = "",
        checked: bool = True,
    ) -> None:
        self.checked = checked
        self.base_url = base_url
        self.access_token = access_token
        self.user_id = user_id
        self.device_id = device_id
        self.password = password
        self.refresh_token: str | None = None
        self.since: str | None = None
        limits = httpx.Limits(max_connections=None, max_keepalive_connections=20)
        # Not verifying anything on the loopback spares every client 27 ms of reading the system's authorities.
        self.http = httpx.AsyncClient(base_url=base_url, timeout=60, limits=limits, trust_env=False, verify=False)

    async def __aenter__(self) -> Client:
        return self

    async def __aexit__(self, *exception: object) -> None:
        await self.close()

    async def close(self) -> None:
        await self.http.aclose()

    # Requests

    async def raw(
        self,
        method: str,
        path: str,
        json: Json = None,
        *,
        params: Mapping[str, Any] | None = None,
        headers: Mapping[str, str] | None = None,
        content: bytes | None = None,
    ) -> httpx.Response:
        """The plain HTTP answer, whatever its status. `content` sends bytes as they are instead of JSON."""
        url = path if path.startswith(("/_", "/.")) else "/_matrix/client/v3" + path
        all_headers = dict(headers or {})
        if self.access_token is not None:
            all_headers.setdefault("Authorization", f"Bearer {self.access_token}")
        if content is None and json is not None:
            # Not httpx's `json=`: it refuses NaN, which tests of bad input send.
            content = jsonlib.dumps(json).encode()
            all_headers.setdefault("Content-Type", "application/json")
        given = {key: value for key, value in (params or {}).items() if value is not None}
        answer = await self.http.request(method, url, params=given or None, headers=all_headers, content=content)
        if self.checked:
            check_answer(method, url.partition("?")[0], answer.status_code, answer.content)
        return answer

    async def request(
        self,
        method: str,
        path: str,
        json: Json = None,
        *,
        expect: int | Collection[int] = 200,
        errcode: str | None = None,
        params: Mapping[str, Any] | None = None,
        headers: Mapping[str, str] | None = None,
        content: bytes | None = None,
    ) -> Json:
        """The answer's JSON body, after its status was one of `expect` and, if `errcode` is given, its errcode that."""
        answer = await self.raw(method, path, json, params=params, headers=headers, content=content)
        wanted = (expect,) if isinstance(expect, int) else expect
        told = f"{method} {path} -> {answer.status_code} {answer.text[:2000]}"
        assert answer.status_code in wanted, f"{told}\n(expected {expect})"
        body: Json = answer.json() if answer.content else None
        if answer.status_code >= 400:
            assert isinstance(body, dict), f"not a JSON object: {told}"
            assert isinstance(body.get("errcode"), str) or "flows" in body, f"no errcode: {told}"
        if errcode is not None:
            assert body is not None
            assert body["errcode"] == errcode, f"{told}\n(expected {errcode})"
        return body

    # Accounts

    async def register(self, name: str, password: str = "wonderland-1865", *, admin: bool = False) -> Client:
        """Make an account with the shared secret and become it."""
        path = "/_synapse/admin/v1/register"
        nonce = (await self.request("GET", path))["nonce"]
        signed = "\0".join((nonce, name, password, "admin" if admin else "notadmin"))
        mac = hmac.new(SHARED_SECRET.encode(), signed.encode(), hashlib.sha1).hexdigest()
        body = {"nonce": nonce, "username": name, "password": password, "admin": admin, "mac": mac}
        self._become(await self.request("POST", path, body), password)
        return self

    async def register_open(self, name: str, password: str = "wonderland-1865", **options: Json) -> Client:
        """Make an account as any client does: `POST /register` with the dummy stage; needs open registration."""
        body = {"username": name, "password": password, **options}
        asked = await self.request("POST", "/register", body, expect=401)
        body["auth"] = {"type": "m.login.dummy", "session": asked["session"]}
        self._become(await self.request("POST", "/register", body), password)
        return self

    async def login(self, user: str, password: str = "wonderland-1865", **options: Json) -> Client:
        """Log in with a password (`user`: local part or whole user ID) and become that session."""
        identifier = {"type": "m.id.user", "user": user}
        body = {"type": "m.login.password", "identifier": identifier, "password": password, **options}
        self._become(await self.request("POST", "/login", body), password)
        return self

    async def another_device(self, **options: Json) -> Client:
        """A second session of the same user; the caller closes it."""
        return await Client(self.base_url).login(self.user_id, self.password, **options)

    def _become(self, answer: Json, password: str) -> None:
        self.user_id = answer["user_id"]
        self.access_token = answer["access_token"]
        self.device_id = answer["device_id"]
        self.refresh_token = answer.get("refresh_token")
        self.password = password

    @property
    def localpart(self) -> str:
        return self.user_id[1:].split(":", 1)[0]

    # Rooms

    async def create_room(self, *invited: Client, **options: Json) -> str:
        """`POST /createRoom`, inviting and joining the clients given; the room's ID."""
        if invited:
            options["invite"] = [client.user_id for client in invited]
        room: str = (await self.request("POST", "/createRoom", options))["room_id"]
        for client in invited:
            await client.join(room)
        return room

    async def join(self, room: str, **expectation: Any) -> Json:
        return await self.request("POST", f"/join/{quote(room, safe='')}", {}, **expectation)

    async def leave(self, room: str, **expectation: Any) -> Json:
        return await self.request("POST", f"{self.room(room)}/leave", {}, **expectation)

    async def membership(
        self, action: str, room: str, user: Client, reason: str | None = None, **expectation: Any
    ) -> Json:
        """`action` is invite, kick, ban or unban."""
        body = {"user_id": user.user_id} | ({} if reason is None else {"reason": reason})
        return await self.request("POST", f"{self.room(room)}/{action}", body, **expectation)

    async def invite(self, room: str, user: Client, **expectation: Any) -> Json:
        return await self.membership("invite", room, user, **expectation)

    async def send(
        self,
        room: str,
        content: Json = "hello",
        event_type: str = "m.room.message",
        *,
        txn: str | None = None,
        **expectation: Any,
    ) -> Any:
        """Send an event (a plain string is a text message); its event ID, or the body of an expected error."""
        body = {"msgtype": "m.text", "body": content} if isinstance(content, str) else content
        path = f"{self.room(room)}/send/{quote(event_type, safe='')}/{quote(txn or self.transaction(), safe='')}"
        answer = await self.request("PUT", path, body, **expectation)
        return answer.get("event_id", answer)

    async def redact(self, room: str, event_id: str, reason: str | None = None, **expectation: Any) -> Any:
        path = f"{self.room(room)}/redact/{quote(event_id, safe='')}/{self.transaction()}"
        answer = await self.request("PUT", path, {} if reason is None else {"reason": reason}, **expectation)
        return answer.get("event_id", answer)

    async def put_state(
        self, room: str, event_type: str, content: Json, state_key: str = "", **expectation: Any
    ) -> Any:
        path = f"{self.room(room)}/state/{quote(event_type, safe='')}/{quote(state_key, safe='')}"
        answer = await self.request("PUT", path, content, **expectation)
        return answer.get("event_id", answer)

    async def get_state(self, room: str, event_type: str, state_key: str = "", **expectation: Any) -> Json:
        path = f"{self.room(room)}/state/{quote(event_type, safe='')}/{quote(state_key, safe='')}"
        return await self.request("GET", path, **expectation)

    async def messages(self, room: str, **params: Any) -> Json:
        """`GET /messages`; give `dir` and what else the request shall say (`from_` for `from`)."""
        query = {key.rstrip("_"): value for key, value in {"dir": "b", **params}.items()}
        return await self.request("GET", f"{self.room(room)}/messages", params=query)

    async def receipt(self, room: str, event_id: str, kind: str = "m.read", **body: Json) -> Json:
        return await self.request("POST", f"{self.room(room)}/receipt/{kind}/{quote(event_id, safe='')}", body)

    async def typing(self, room: str, typing: bool = True, timeout: int = 30_000) -> Json:
        body: dict[str, Json] = {"typing": typing} | ({"timeout": timeout} if typing else {})
        return await self.request("PUT", f"{self.room(room)}/typing/{quote(self.user_id, safe='')}", body)

    @staticmethod
    def room(room: str) -> str:
        """The path of a room, to be continued."""
        return f"/rooms/{quote(room, safe='')}"

    @classmethod
    def transaction(cls) -> str:
        """A transaction ID that nobody has used."""
        return f"t{next(cls._transactions)}"

    # Sync

    async def sync(self, since: str | None = None, timeout: int = 0, **params: Any) -> Json:
        """One `GET /sync` (`timeout` in milliseconds; a dict as `filter` is encoded)."""
        if isinstance(params.get("filter"), dict):
            params["filter"] = jsonlib.dumps(params["filter"])
        query = {"since": since, "timeout": timeout, **params}
        query = {key: str(value).lower() if isinstance(value, bool) else value for key, value in query.items()}
        return await self.request("GET", "/sync", params=query)

    async def sync_on(self, timeout: int = 0, **params: Any) -> Json:
        """One `GET /sync` from where this client's last `sync_on` or `sync_until` ended."""
        answer = await self.sync(self.since, timeout, **params)
        self.since = answer["next_batch"]
        return answer

    async def sync_until(self, condition: Callable[[Json], Any], *, seconds: float = 15.0, **params: Any) -> Any:
        """Sync on until `condition(answer)` is truthy and return that value; AssertionError after `seconds`."""
        deadline = time.monotonic() + seconds
        seen: list[Json] = []
        while (left := deadline - time.monotonic()) > 0:
            answer = await self.sync_on(timeout=int(min(left, 10) * 1000) if self.since else 0, **params)
            if found := condition(answer):
                return found
            seen.append(answer)
        raise AssertionError(f"not seen in {seconds} s of sync: {jsonlib.dumps(seen)[-4000:]}")

    async def sync_event(self, room: str, event_id: str, **params: Any) -> Json:
        """Sync on until the event stands in the room's timeline; the event."""
        return await self.sync_until(
            lambda answer: next((event for event in timeline(answer, room) if event["event_id"] == event_id), None),
            **params,
        )


def joined(answer: Json, room: str) -> Json:
    """The room's part in `rooms.join` of a sync answer ({} if it is not there)."""
    return answer.get("rooms", {}).get("join", {}).get(room, {})


def timeline(answer: Json, room: str) -> list[Json]:
    """The timeline events of a joined room in a sync answer."""
    events: list[Json] = joined(answer, room).get("timeline", {}).get("events", [])
    return events


def bodies(events: list[Json]) -> list[str]:
    """The bodies of the messages among the events, in their order."""
    return [event["content"]["body"] for event in events if event["type"] == "m.room.message"]
