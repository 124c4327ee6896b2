"""A bot with matrix-nio that lives in the namespace of an application service: it has no password, and reads and
answers in encrypted rooms."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from nio import RoomMessageNotice, RoomMessageText

from ..server.bridge import Bridge
from ..server.client import Client
from ..server.conftest import NewUser
from ..server.harness import TinyServer
from ..server.nio_device import NioDevice, done, until

pytestmark = pytest.mark.filterwarnings("default")  # nio's own dependencies warn


async def test_a_bot(server: TinyServer, new_user: NewUser, tmp_path: Path) -> None:
    async with Bridge("bots") as bridge, await bridge.register(server) as service:
        body = {"type": "m.login.application_service", "username": "bots_echo", "device_id": "BOT"}
        made = await service.request("POST", "/register", body)
        session = Client(server.base_url, made["access_token"], user_id=made["user_id"], device_id="BOT")
        (tmp_path / "bot").mkdir()
        (tmp_path / "alice").mkdir()
        bot = await NioDevice(session, tmp_path / "bot").start()
        alice = await NioDevice(await new_user("alice"), tmp_path / "alice").start()
        try:

            async def answer(room: Any, event: Any) -> None:
                if event.sender != bot.user_id:
                    content = {"msgtype": "m.notice", "body": f"you said {event.body}"}
                    sent = await bot.nio.room_send(
                        room.room_id, "m.room.message", content, ignore_unverified_devices=True
                    )
                    done(sent)

            heard: dict[str, str] = {}

            def hear(room: Any, event: Any) -> None:
                heard[event.event_id] = event.body

            bot.nio.add_event_callback(answer, RoomMessageText)
            alice.nio.add_event_callback(hear, RoomMessageNotice)
            room = await alice.new_room(session)
            await bot.join(room)
            await alice.is_in(room, bot.user_id)
            await alice.knows(bot)
            await alice.say(room, "hello")
            # The service is told of what its bot says, too.
            encrypted = await bridge.until(
                lambda: [each for each in bridge.events if each["type"] == "m.room.encrypted"][1:]
            )
            assert encrypted[0]["sender"] == bot.user_id
            answer_id = encrypted[0]["event_id"]
            await until("the answer", lambda: answer_id in heard or answer_id in alice.unreadable)
            assert heard == {answer_id: "you said hello"}
        finally:
            await bot.stop()
            await alice.stop()
            await session.close()
