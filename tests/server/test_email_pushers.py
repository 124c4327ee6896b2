"""Mails that tell of missed messages, at a real mail server."""

from __future__ import annotations

import asyncio
import itertools
import time
from typing import Any

from ..mail_server import MailServer, html, plain
from .client import Client
from .conftest import NewUser
from .harness import TinyServer
from .test_threepids import add, with_mail

DELAY, PAUSE = 0.2, 2.5


def config(mails: MailServer, pause: float = PAUSE, **more: Any) -> dict[str, Any]:
    times = {"delay": f"{DELAY}s", "pause": f"{pause}s", "longest_pause": "1h"}
    return {**with_mail(mails), "mail_notifications": {**times, **more}}


config_with = config


def pusher(address: str, **changes: Any) -> dict[str, Any]:
    return {
        "kind": "email", "app_id": "m.email", "pushkey": address, "app_display_name": "Email Notifications",
        "device_display_name": address, "lang": "en", "data": {"brand": "Element"}, **changes,
    }  # fmt: skip


class Reader:
    """A user who wants mails."""

    def __init__(self, server: TinyServer, mails: MailServer, client: Client, address: str) -> None:
        self.server, self.mails, self.client, self.address = server, mails, client, address

    @property
    def got(self) -> list[Any]:
        """The mails about missed messages."""
        return [mail for mail in self.mails.mails if mail["To"] == self.address and "List-Unsubscribe" in mail]

    async def mail(self, number: int) -> Any:
        """The mail with this number (from 1)."""

        def wait() -> Any:
            deadline = time.monotonic() + 30
            while len(self.got) < number:
                assert time.monotonic() < deadline, f"{len(self.got)} mails came, not {number}"
                time.sleep(0.01)
            return self.got[number - 1]

        return await asyncio.to_thread(wait)

    async def set(self, **changes: Any) -> Any:
        expectation = {key: changes.pop(key) for key in ("expect", "errcode") if key in changes}
        return await self.client.request("POST", "/pushers/set", pusher(self.address, **changes), **expectation)

    async def pushers(self) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = (await self.client.request("GET", "/pushers"))["pushers"]
        return found


async def reader_of(server: TinyServer, mails: MailServer, client: Client) -> Reader:
    reader = Reader(server, mails, client, f"{client.localpart}@example.org")
    await add(server, mails, client, reader.address)
    return reader


async def test_setting(server: TinyServer, mails: MailServer, new_user: NewUser) -> None:
    ada, eve = await new_user("set-ada"), await new_user("set-eve")
    reader = Reader(server, mails, ada, f"{ada.localpart}@example.org")
    await reader.set(expect=400, errcode="M_THREEPID_NOT_FOUND")
    await add(server, mails, ada, reader.address)
    await eve.request("POST", "/pushers/set", pusher(reader.address), expect=400, errcode="M_THREEPID_NOT_FOUND")
    await reader.set(app_id="org.example", expect=400, errcode="M_INVALID_PARAM")
    await reader.set(pushkey=reader.address.upper())
    (shown,) = await reader.pushers()
    assert shown["kind"] == "email"
    assert shown["pushkey"] == reader.address
    await reader.set(kind=None, pushkey=reader.address.upper())
    assert await reader.pushers() == []
    # It outlasts the device on which it was switched on, and goes with the address.
    other = await ada.another_device()
    await other.request("POST", "/pushers/set", pusher(reader.address))
    await other.request("POST", "/logout")
    await other.close()
    assert len(await reader.pushers()) == 1
    await ada.request("POST", "/account/3pid/delete", {"medium": "email", "address": reader.address})
    assert await reader.pushers() == []


async def test_what_a_mail_tells(server: TinyServer, mails: MailServer, new_user: NewUser) -> None:
    ada, bob = await new_user("ada"), await new_user("bob")
    await bob.request("PUT", f"/profile/{bob.user_id}/displayname", {"displayname": "Bob <b>"})
    room = await bob.create_room(ada, name="Tea & <i>Cake</i>")
    reader = await reader_of(server, mails, ada)
    # What she has read is not told, nor what she wrote herself.
    read = await bob.send(room, "read already")
    await reader.set()
    await ada.receipt(room, read)
    for number in range(5):
        last = await bob.send(room, f"message {number} <script>\n& more")
    strange = await bob.create_room(ada, name="\0\n\u202e" + "strange " * 5000)
    await bob.send(strange, "\0\r\nBcc: eve@example.org\u2028\U000e0001" + "x" * 20_000)
    secret = await bob.create_room(ada)
    await bob.send(secret, {"algorithm": "m.megolm.v1.aes-sha2", "ciphertext": "c1ph3r"}, "m.room.encrypted")
    await bob.request("POST", "/createRoom", {"name": "Party", "invite": [ada.user_id]})
    got, seen = "", 0
    async with asyncio.timeout(30):
        while not all(each in got for each in ("Party", "Tea", "a message", "Bcc")):  # one mail, unless this took long
            seen += 1
            got += plain(await reader.mail(seen))
    assert "read already" not in got
    assert "message 4 <script> & more" in got
    assert "Bob <b> invites you" in got
    assert "c1ph3r" not in got
    assert all(len(line) < 500 for each in reader.got for line in plain(each).splitlines())
    assert all(each["To"] == reader.address and each["Bcc"] is None for each in reader.got)
    assert f"https://matrix.to/#/{room}" in got
    markup = "".join(html(each) for each in reader.got)
    assert "Tea &amp; &lt;i&gt;Cake&lt;/i&gt;" in markup
    assert "message 4 &lt;script&gt; &amp; more" in markup
    assert "<script>" not in markup
    mail = reader.got[0]
    assert "tiny.test" in mail["Subject"]
    assert mail["List-Unsubscribe-Post"] == "List-Unsubscribe=One-Click"
    await ada.receipt(room, last)


async def test_pauses_grow_until_something_is_read(server: TinyServer, mails: MailServer, new_user: NewUser) -> None:
    ada, bob = await new_user("ada"), await new_user("bob")
    room = await bob.create_room(ada, name="Slow")
    reader = await reader_of(server, mails, ada)
    await reader.set()
    await bob.send(room, "first")
    assert "first" in plain(await reader.mail(1))
    at_first = time.monotonic()
    second = await bob.send(room, "second")
    told = plain(await reader.mail(2))
    at_second = time.monotonic()
    assert at_second - at_first > PAUSE * 0.9
    assert "second" in told
    assert "first" not in told
    # Reading ends the pause, which would be twice as long now.
    await ada.receipt(room, second)
    await bob.send(room, "third")
    assert "third" in plain(await reader.mail(3))
    assert time.monotonic() - at_second < PAUSE * 2
    assert len(reader.got) == 3


async def test_what_is_read_in_time_is_not_mailed(make_server: Any, mails: MailServer, connect: Any) -> None:
    server = make_server(config=config(mails, pause=0, delay="1500ms"))
    ada, bob = await connect(server).register("read-ada"), await connect(server).register("read-bob")
    room, other = await bob.create_room(ada), await bob.create_room(ada)
    reader = await reader_of(server, mails, ada)
    await reader.set()
    await ada.receipt(room, await bob.send(room, "read in time"))
    await bob.send(other, "not read")
    told = plain(await reader.mail(1))
    assert "not read" in told
    assert "in time" not in told


async def test_what_was_not_mailed_before_a_crash_is_mailed_after_it(
    make_server: Any, mails: MailServer, connect: Any
) -> None:
    server = make_server(config=config(mails, pause=0, with_messages=False))
    ada, bob = await connect(server).register("crash-ada"), await connect(server).register("crash-bob")
    room = await bob.create_room(ada, name="Crash")
    reader = await reader_of(server, mails, ada)
    await reader.set(lang="de-AT")
    server.log.tolerate("a mail could not be sent")
    mails.refuse = "450 later"
    try:
        mark = server.log.mark()
        await bob.send(room, "one")
        await asyncio.to_thread(server.log.wait_for, "a mail could not be sent", process=server._process, since=mark)
        await asyncio.to_thread(server.kill)
    finally:
        mails.refuse = ""
    await asyncio.to_thread(server.start)
    # It is tried again after some minutes; setting the pusher anew begins at once.
    await reader.set(lang="de-AT")
    told = plain(await reader.mail(1))
    assert "Bob" not in told
    assert "eine Nachricht" in told
    assert "one" not in told
    # Told once: after another restart only what is new.
    await asyncio.to_thread(server.kill)
    await asyncio.to_thread(server.start)
    await bob.send(room, "two")
    await reader.mail(2)
    assert "Crash: 1 " in reader.got[1]["Subject"]
    # An address that does not exist any more gets no more mails.
    mails.refuse = "550 no such user"
    try:
        await bob.send(room, "three")
        async with asyncio.timeout(30):
            for pause in itertools.repeat(0.02):
                if not await reader.pushers():
                    break
                await asyncio.sleep(pause)
    finally:
        mails.refuse = ""


async def test_unsubscribing(server: TinyServer, mails: MailServer, new_user: NewUser) -> None:
    ada, bob = await new_user("ada"), await new_user("bob")
    room = await bob.create_room(ada, name="Spam")
    reader = await reader_of(server, mails, ada)
    await reader.set()
    await bob.send(room, "hello")
    mail = await reader.mail(1)
    link = mail["List-Unsubscribe"].strip("<>")
    assert link in plain(mail)
    async with Client(server.base_url) as anybody:
        shown = await anybody.http.get(link)
        assert reader.address in shown.text
        assert len(await reader.pushers()) == 1
        for wrong in (link[:-1] + ("0" if link[-1] != "0" else "1"), link.replace("pusher=", "pusher=9"), link + "é"):
            assert (await anybody.http.get(wrong)).status_code == 404
            assert (await anybody.http.post(wrong)).status_code == 404
        assert len(await reader.pushers()) == 1
        # As mail programs do it.
        ended = await anybody.http.post(link, data={"List-Unsubscribe": "One-Click"})
        assert ended.status_code == 200
        assert await reader.pushers() == []
        assert (await anybody.http.post(link)).status_code == 404


async def test_without_a_mail_server_there_are_none(make_server: Any, connect: Any) -> None:
    server = make_server(config={"registration": {"mode": "open"}})
    user = await connect(server).register("ada")
    await user.request("POST", "/pushers/set", pusher("a@b.c"), expect=400, errcode="M_INVALID_PARAM")
