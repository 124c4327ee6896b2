"""Mails, as a real SMTP server gets them."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import replace

import pytest

from tinyserver.config import Smtp
from tinyserver.mail.mailer import Mailer, MailFailed
from tinyserver.mail.message import Mail
from tinyserver.outgoing.dns import Resolver
from tinyserver.outgoing.tls import TlsClient

from .mail_server import MailServer, html, link_in, plain

MAIL = Mail(
    "ada@example.org",
    "de",
    "Grüße\nan <dich>",
    ["Ein Absatz mit ü & <b>."],
    ("Hier weiter", "https://tiny.test/account?a=1&b=2"),
    ["Schluss."],
)


@pytest.fixture
def mails() -> Iterator[MailServer]:
    with MailServer() as server:
        yield server


def mailer(port: int, **options: str) -> Mailer:
    tls = TlsClient(verify=True, extra_ca_files=[], wall_ms=lambda: int(time.time() * 1000), best_known_ms=lambda: 0)
    smtp = replace(Smtp(host="127.0.0.1", port=port, tls="none", sender="tiny <no-reply@tiny.test>"), **options)
    return Mailer(smtp, "tiny.test:8448", Resolver(["127.0.0.1:9"], time.monotonic), tls)


async def test_a_mail_says_the_same_as_text_and_as_html(mails: MailServer) -> None:
    await mailer(mails.port).send(MAIL)
    got = mails.wait_for(1)
    assert got["From"] == "tiny <no-reply@tiny.test>"
    assert got["Subject"] == "Grüße an <dich>"
    assert got["Auto-Submitted"] == "auto-generated"
    assert got["Message-ID"].endswith("@tiny.test>")
    assert "Ein Absatz mit ü & <b>." in plain(got)
    assert link_in(got) == "https://tiny.test/account?a=1&b=2"
    assert "Ein Absatz mit ü &amp; &lt;b&gt;." in html(got)
    assert '<a href="https://tiny.test/account?a=1&amp;b=2">Hier weiter</a>' in html(got)


@pytest.mark.filterwarnings("ignore:Requiring AUTH while not requiring TLS")  # of the mail server of the tests
async def test_logging_in_at_the_mail_server() -> None:
    with MailServer(login=("tiny", "secret")) as mails:
        await mailer(mails.port, username="tiny", password="secret").send(MAIL)
        assert mails.logins == [("tiny", "secret")]
        with pytest.raises(MailFailed, match="535"):
            await mailer(mails.port, username="tiny", password="wrong").send(MAIL)
        assert len(mails.mails) == 1


async def test_refusals(mails: MailServer) -> None:
    mails.refuse = "550 no such user"
    with pytest.raises(MailFailed) as lasting:
        await mailer(mails.port).send(MAIL)
    assert lasting.value.is_lasting
    mails.refuse = "450 later"
    with pytest.raises(MailFailed) as passing:
        await mailer(mails.port).send(MAIL)
    assert not passing.value.is_lasting


async def test_never_without_the_encryption_that_is_wanted(mails: MailServer) -> None:
    with pytest.raises(MailFailed):
        await mailer(mails.port, tls="starttls").send(MAIL)
    assert mails.mails == []


async def test_nobody_there(mails: MailServer) -> None:
    with pytest.raises(MailFailed):
        await mailer(9).send(MAIL)
    with pytest.raises(MailFailed, match="no mail server"):
        await mailer(9, host="").send(MAIL)
