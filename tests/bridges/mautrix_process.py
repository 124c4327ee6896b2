"""A bridge made with mautrix, as a process of its own: `python -m tests.bridges.mautrix_process CONFIG`.

It makes ghosts and portal rooms when it is asked for them, and has a ghost repeat what people say. What it is told is
stored in SQLite together with the IDs of the transactions, so that one which comes again is known, also after a kill.
"""

from __future__ import annotations

import asyncio
import json
import logging
import sqlite3
import sys
from pathlib import Path
from typing import Any

import aiohttp
from mautrix.api import Method
from mautrix.api import Path as ApiPath
from mautrix.appservice import AppService, ASStateStore
from mautrix.client.state_store import MemoryStateStore
from mautrix.errors import IntentError, MatrixConnectionError
from mautrix.types import EventType, MessageType, RoomCreatePreset, TextMessageEventContent, UserID

from .olm import OlmDevice

SCHEMA = """
PRAGMA journal_mode = WAL;
PRAGMA synchronous = FULL;
CREATE TABLE IF NOT EXISTS transactions (id TEXT PRIMARY KEY, tries INTEGER NOT NULL);
CREATE TABLE IF NOT EXISTS events (
    seq INTEGER PRIMARY KEY, txn TEXT, event_id TEXT, room TEXT, sender TEXT, type TEXT, json TEXT, echoed INTEGER
);
CREATE TABLE IF NOT EXISTS notes (seq INTEGER PRIMARY KEY, kind TEXT, json TEXT);
"""
Json = dict[str, Any]


class States(MemoryStateStore, ASStateStore):
    """What the bridge knows of rooms, in memory."""

    def __init__(self) -> None:
        MemoryStateStore.__init__(self)
        ASStateStore.__init__(self)


class Bridge(AppService):
    """The bridge."""

    def __init__(self, config: Json) -> None:
        super().__init__(
            server=config["server"],
            domain=config["domain"],
            as_token=config["as_token"],
            hs_token=config["hs_token"],
            bot_localpart="mxbot",
            id="mautrix",
            state_store=States(),
            ephemeral_events=True,
            encryption_events=True,
            query_user=self.make_user,
            query_alias=self.make_room,
        )
        self.db = sqlite3.connect(config["database"], isolation_level=None)
        self.db.executescript(SCHEMA)
        self.news = asyncio.Event()
        self.device: OlmDevice | None = None
        self.joining: asyncio.Future[Any] | None = None
        self.to_device_handler = self.on_to_device
        self.device_list_handler = self.on_device_lists
        self.otk_handler = self.on_counts
        self.synchronous_handlers = True
        self.matrix_event_handler(self.on_event)

    def note(self, kind: str, value: Any) -> None:
        self.db.execute("INSERT INTO notes (kind, json) VALUES (?, ?)", (kind, json.dumps(value)))

    # -- what the server asks --------------------------------------------------------------------

    async def make_user(self, user_id: UserID) -> Json | None:
        await self.intent.user(user_id).ensure_registered()
        await self.intent.user(user_id).set_displayname(f"{user_id.split(':')[0][4:].title()} (mx)")
        return {}

    async def make_room(self, alias: str) -> Json | None:
        if "missing" in alias:
            return None
        local = alias[1:].split(":")[0]
        await self.intent.create_room(alias_localpart=local, preset=RoomCreatePreset.PUBLIC, name=f"portal {local}")
        return {}

    # -- what the server tells -------------------------------------------------------------------

    async def handle_transaction(self, txn_id: str, *, events: list[Json], **more: Any) -> Json:
        self.db.execute("BEGIN IMMEDIATE")
        is_new = self.db.execute(
            "INSERT INTO transactions VALUES (?, 1) ON CONFLICT (id) DO UPDATE SET tries = tries + 1 RETURNING tries",
            (txn_id,),
        ).fetchone() == (1,)
        if is_new:
            self.db.executemany(
                "INSERT INTO events (txn, event_id, room, sender, type, json, echoed) VALUES (?, ?, ?, ?, ?, ?, 0)",
                [
                    (txn_id, each["event_id"], each["room_id"], each["sender"], each["type"], json.dumps(each))
                    for each in events
                ],
            )
        self.db.execute("COMMIT")
        if not is_new:
            return {}
        if self.device is not None:
            for message in more.get("to_device") or ():
                if message["to_device_id"] == self.device.device_id:
                    self.device.take(message)
            for event in events:
                if event["type"] == "m.room.encrypted" and (said := self.device.read(event)) is not None:
                    self.note("read", {"event_id": event["event_id"], "body": said["content"]["body"]})
        await super().handle_transaction(txn_id, events=events, **more)
        self.news.set()
        return {}

    async def on_event(self, event: Any) -> None:
        """mautrix has understood an event."""
        self.note("event", str(event.type))
        if event.type != EventType.ROOM_MEMBER or str(event.content.membership) != "invite":
            return
        if event.state_key.startswith("@mx_crypt"):
            self.joining = asyncio.ensure_future(self.intent.user(event.state_key).join_room(event.room_id))

    async def on_to_device(self, message: Any) -> None:
        self.note("to_device", [message.to_user_id, message.to_device_id])

    async def on_device_lists(self, lists: Any) -> None:
        self.note("device_lists", lists.serialize())

    async def on_counts(self, counts: Any) -> None:
        for user_id, devices in counts.items():
            for device_id, count in devices.items():
                self.note("counts", [user_id, device_id, count.signed_curve25519])
                if self.device is not None and device_id == self.device.device_id and count.signed_curve25519 < 4:
                    await self.device.add_one_time_keys()

    # -- what the bridge does --------------------------------------------------------------------

    async def start_device(self, user_id: str) -> None:
        """A ghost with a device that encrypts."""
        ghost = self.intent.user(UserID(user_id))
        await ghost.ensure_registered()
        await ghost.api.request(Method.PUT, ApiPath.v3.devices["BRIDGE"], {"display_name": "bridge"})

        async def request(method: str, path: str, body: Json) -> Json:
            where = ApiPath.v3
            for part in path.strip("/").split("/"):
                where = where[part]
            answer: Json = await ghost.api.request(Method(method), where, body, query_params={"device_id": "BRIDGE"})
            return answer

        self.device = OlmDevice(user_id, "BRIDGE", request)
        await self.device.publish()

    async def echo_forever(self) -> None:
        """Repeat what people said, each of it once: the transaction ID is that of the event."""
        while True:
            self.news.clear()
            rows = self.db.execute(
                "SELECT seq, event_id, room, json FROM events WHERE type = 'm.room.message' "
                "AND sender NOT LIKE '@mx%' AND echoed = 0 ORDER BY seq"
            ).fetchall()
            for seq, event_id, room, text in rows:
                await self.insist_on_echo(event_id, room, json.loads(text)["content"]["body"])
                self.db.execute("UPDATE events SET echoed = 1 WHERE seq = ?", (seq,))
            await self.news.wait()

    async def insist_on_echo(self, event_id: str, room: Any, body: str) -> None:
        ghost = self.intent.user(UserID(f"@mx_echo:{self.domain}"))
        content = TextMessageEventContent(msgtype=MessageType.NOTICE, body=f"echo of {body}")
        while True:
            try:
                await ghost.ensure_joined(room)
                await ghost.send_message_event(room, EventType.ROOM_MESSAGE, content, txn_id=event_id)
                return
            except (aiohttp.ClientError, MatrixConnectionError, IntentError) as error:
                self.log.warning("not yet: %s", error)  # the server is being restarted
                await asyncio.sleep(0.1)


async def main(config: Json) -> None:
    bridge = Bridge(config)
    await bridge.start("127.0.0.1", config["port"])
    if config.get("device"):
        await bridge.start_device(config["device"])
    if config.get("ping"):
        bridge.note("ping", await bridge.ping_self("meow"))
    print("ready", flush=True)
    await bridge.echo_forever()


if __name__ == "__main__":
    logging.basicConfig(level=logging.DEBUG, stream=sys.stderr)
    asyncio.run(main(json.loads(Path(sys.argv[1]).read_text())))
