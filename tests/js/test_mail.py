"""Mail addresses, as matrix-js-sdk uses them."""

from __future__ import annotations

import asyncio

from ..mail_server import MailServer, link_in
from ..server.conftest import MakeServer
from ..server.oauth import Browser
from ..server.test_threepids import with_mail
from .conftest import MakeScenario


async def test_mail(make_server: MakeServer, make_scenario: MakeScenario) -> None:
    with MailServer() as mails:
        server = make_server(config=with_mail(mails))
        scenario = make_scenario(tiny=server)
        read = 0

        async def confirm(address: str) -> None:
            """Open the link in the next mail, which must be to this address, and press the button."""
            nonlocal read
            read += 1
            mail = await asyncio.to_thread(mails.wait_for, read)
            assert mail["To"] == address
            async with Browser(server.base_url) as browser:
                await browser.open(link_in(mail))
                await browser.press("confirm", expect=200)

        scenario.handlers["confirm"] = confirm
        await scenario.run("mail", timeout=90)
