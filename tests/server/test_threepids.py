"""Mail addresses: proving them, registering and choosing a new password with them, and the list of the account."""

from __future__ import annotations

import asyncio
import itertools
import re
from typing import Any

import pytest

from ..mail_server import MailServer, html, link_in, plain
from .client import Client
from .oauth import Browser

_numbers = itertools.count(1)
NEW = "looking-glass-1871"


@pytest.fixture
def anybody(server: Any, connect: Any) -> Client:
    client: Client = connect(server)
    return client


def with_mail(mails: MailServer, **registration: Any) -> dict[str, Any]:
    smtp = {"host": "127.0.0.1", "port": mails.port, "tls": "none", "from": "tiny <no-reply@tiny.test>"}
    return {"smtp": smtp, "registration": {"mode": "open", "allow_guests": True, **registration}}


config_with = with_mail


def new_address(name: str = "ada") -> str:
    return f"{name}-{next(_numbers)}@example.org"


async def ask(client: Client, what: str, email: str, attempt: int = 1, **more: Any) -> dict[str, Any]:
    """Have a mail sent; the credentials."""
    secret = more.pop("client_secret", f"secret.{next(_numbers)}")
    expectation = {key: more.pop(key) for key in ("expect", "errcode") if key in more}
    body = {"client_secret": secret, "email": email, "send_attempt": attempt, **more}
    answer = await client.request("POST", f"/{what}/email/requestToken", body, **expectation)
    return {"sid": answer.get("sid"), "client_secret": secret}


async def next_mail(mails: MailServer, before: int) -> Any:
    return await asyncio.to_thread(mails.wait_for, before + 1)


async def confirm(server: Any, link: str) -> Browser:
    browser = Browser(server.base_url)
    await browser.open(link)
    assert browser.page.status_code == 200, browser.page.text
    await browser.press("confirm")
    return browser


async def prove(server: Any, mails: MailServer, client: Client, what: str, email: str) -> dict[str, Any]:
    """The credentials of a validated session."""
    before = len(mails.mails)
    creds = await ask(client, what, email)
    async with await confirm(server, link_in(await next_mail(mails, before))):
        return creds


async def add(server: Any, mails: MailServer, user: Client, email: str) -> None:
    creds = await prove(server, mails, user, "account/3pid", email)
    await user.request("POST", "/account/3pid/add", {**creds, "auth": password_stage(user)})


def password_stage(user: Client) -> dict[str, Any]:
    identifier = {"type": "m.id.user", "user": user.user_id}
    return {"type": "m.login.password", "identifier": identifier, "password": user.password}


def email_stage(creds: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"type": "m.login.email.identity", "threepid_creds": creds, **more}


async def addresses(user: Client) -> list[str]:
    found = (await user.request("GET", "/account/3pid"))["threepids"]
    assert all(each["medium"] == "email" and each["validated_at"] <= each["added_at"] for each in found)
    return [each["address"] for each in found]


async def test_adding_an_address_and_taking_it_away(server: Any, mails: MailServer, new_user: Any) -> None:
    user, email = await new_user("ada"), new_address()
    assert await addresses(user) == []
    capabilities = (await user.request("GET", "/capabilities"))["capabilities"]
    assert capabilities["m.3pid_changes"] == {"enabled": True}
    before = len(mails.mails)
    creds = await ask(user, "account/3pid", email.replace("example.org", "Example.ORG").replace("ada", "ADA"))
    mail = await next_mail(mails, before)
    assert mail["To"] == email
    assert "tiny.test" in plain(mail)
    assert link_in(mail).startswith(server.base_url + "/account/email?token=")
    # Not proved yet, and looking at the link proves nothing.
    body = {**creds, "auth": password_stage(user)}
    async with Browser(server.base_url) as scanner:
        for _ in range(2):
            await scanner.open(link_in(mail))
            assert scanner.page.status_code == 200
            assert email in scanner.page.text
        assert (await scanner.http.post(link_in(mail))).status_code == 403
        assert (await scanner.http.head(link_in(mail))).status_code == 200
    await user.request("POST", "/account/3pid/add", body, expect=403, errcode="M_THREEPID_AUTH_FAILED")
    async with await confirm(server, link_in(mail)) as browser:
        assert "is confirmed" in browser.page.text
    wrong = {**creds, "client_secret": "another"}
    await user.request("POST", "/account/3pid/add", wrong, expect=403, errcode="M_THREEPID_AUTH_FAILED")
    asked = await user.request("POST", "/account/3pid/add", creds, expect=401)
    assert asked["flows"] == [{"stages": ["m.login.password"]}]
    assert await user.request("POST", "/account/3pid/add", body) == {}
    assert await addresses(user) == [email]
    # Once only.
    await user.request("POST", "/account/3pid/add", body, expect=403, errcode="M_THREEPID_AUTH_FAILED")
    # Signing in with it, as clients of all times name it.
    async with Client(server.base_url) as client:
        for identifier in (
            {"identifier": {"type": "m.id.thirdparty", "medium": "email", "address": email.upper()}},
            {"medium": "email", "address": email},
        ):
            login = {"type": "m.login.password", "password": user.password, **identifier}
            assert (await client.request("POST", "/login", login))["user_id"] == user.user_id
        login = {**login, "password": "wrong"}
        await client.request("POST", "/login", login, expect=403, errcode="M_FORBIDDEN")
        login = {**login, "address": new_address("nobody")}
        await client.request("POST", "/login", login, expect=403, errcode="M_FORBIDDEN")
    async with Browser(server.base_url) as browser:
        await browser.open("/account")
        await browser.press("sign_in", user=email, password=user.password)
        assert user.user_id in browser.page.text
    gone = {"medium": "email", "address": email.upper()}
    answer = await user.request("POST", "/account/3pid/delete", gone)
    assert answer == {"id_server_unbind_result": "no-support"}
    assert await addresses(user) == []
    await user.request("POST", "/account/3pid/delete", gone)


async def test_send_attempts(server: Any, mails: MailServer, anybody: Client) -> None:
    email, before = new_address(), len(mails.mails)
    first = await ask(anybody, "account/3pid", email, 3, client_secret="one")
    old = link_in(await next_mail(mails, before))
    for attempt in (3, 2, 0):
        assert await ask(anybody, "account/3pid", email, attempt, client_secret="one") == first
    assert len(mails.mails) == before + 1
    assert await ask(anybody, "account/3pid", email, 4, client_secret="one") == first
    newest = link_in(await next_mail(mails, before + 1))
    # Another client's session, and one for something else, are other ones.
    other = await ask(anybody, "account/3pid", email, 1, client_secret="two")
    elsewhere = await ask(anybody, "register", email, 1, client_secret="one")
    assert len({first["sid"], other["sid"], elsewhere["sid"]}) == 3
    assert len(mails.mails) == before + 4
    async with Browser(server.base_url) as browser:
        assert (await browser.open(old)).status_code == 404
        assert (await browser.open(newest)).status_code == 200


async def test_a_mail_that_cannot_be_sent_is_not_counted(server: Any, mails: MailServer, anybody: Client) -> None:
    email, before = new_address(), len(mails.mails)
    server.log.tolerate("a mail could not be sent")
    mails.refuse = "450 later"
    try:
        await ask(anybody, "account/3pid", email, client_secret="x", expect=400, errcode="M_EMAIL_SEND_ERROR")
    finally:
        mails.refuse = ""
    await ask(anybody, "account/3pid", email, client_secret="x")
    assert len(mails.mails) == before + 1


@pytest.mark.parametrize(
    ("changed", "errcode"),
    [
        ({"email": "nobody"}, "M_INVALID_PARAM"),
        ({"email": "a@b@c"}, "M_INVALID_PARAM"),
        ({"email": "Ada <ada@example.org>"}, "M_INVALID_PARAM"),
        ({"email": "ada@example.org\r\nBcc: eve@example.org"}, "M_INVALID_PARAM"),
        ({"email": "ada@example.org,eve@example.org"}, "M_INVALID_PARAM"),
        ({"email": "x" * 300 + "@example.org"}, "M_INVALID_PARAM"),
        ({"email": 3}, "M_BAD_JSON"),
        ({"client_secret": ""}, "M_INVALID_PARAM"),
        ({"client_secret": "a b"}, "M_INVALID_PARAM"),
        ({"client_secret": "x" * 256}, "M_INVALID_PARAM"),
        ({"send_attempt": -1}, "M_INVALID_PARAM"),
        ({"send_attempt": "1"}, "M_BAD_JSON"),
        ({"next_link": "javascript:alert(1)"}, "M_INVALID_PARAM"),
        ({"next_link": "https://tiny.test@evil.example/"}, "M_INVALID_PARAM"),
        ({"next_link": "/relative"}, "M_INVALID_PARAM"),
    ],
)
@pytest.mark.parametrize("what", ["account/3pid", "account/password", "register"])
async def test_bad_requests(
    anybody: Client, mails: MailServer, what: str, changed: dict[str, Any], errcode: str
) -> None:
    before = len(mails.mails)
    body = {"client_secret": "s", "email": "ada@example.org", "send_attempt": 1, **changed}
    await anybody.request("POST", f"/{what}/email/requestToken", body, expect=400, errcode=errcode)
    assert len(mails.mails) == before


async def test_the_next_link_is_shown_before_anybody_goes_there(
    server: Any, mails: MailServer, anybody: Client
) -> None:
    before, there = len(mails.mails), "https://app.example.com/#/done?x=1&y=<2>"
    await ask(anybody, "register", new_address(), next_link=there.replace("<2>", "2"))
    link = link_in(await next_mail(mails, before))
    async with Browser(server.base_url) as browser:
        page = await browser.open(link)
        assert "app.example.com" in page.text
        assert "form-action 'self' https://app.example.com" in page.headers["content-security-policy"]
        away = await browser.press("confirm")
        assert away.is_redirect
        assert away.headers["location"] == "https://app.example.com/#/done?x=1&y=2"
        again = await browser.open(link)
        assert "is confirmed" in again.text


async def test_nobody_learns_whose_address_it_is(
    server: Any, mails: MailServer, new_user: Any, anybody: Client
) -> None:
    user, email = await new_user("ada"), new_address()
    await add(server, mails, user, email)
    for what, address, told in (
        ("register", email, user.user_id),
        ("account/3pid", email, user.user_id),
        ("account/password", new_address("nobody"), "no such account"),
    ):
        before = len(mails.mails)
        creds = await ask(anybody, what, address)
        mail = await next_mail(mails, before)
        assert told in plain(mail)
        assert "http" not in plain(mail).replace("https://tiny.test", "")
        assert set(creds) == {"sid", "client_secret"}
        assert creds["sid"]


async def test_a_new_password(server: Any, mails: MailServer, new_user: Any, anybody: Client) -> None:
    user, email = await new_user("ada"), new_address()
    await add(server, mails, user, email)
    asked = await anybody.request("POST", "/account/password", {"new_password": NEW}, expect=401)
    assert asked["flows"] == [{"stages": ["m.login.password"]}, {"stages": ["m.login.email.identity"]}]
    # What was proved for something else is no good.
    other = await prove(server, mails, anybody, "register", new_address())
    body = {"new_password": NEW, "logout_devices": True}
    await anybody.request(
        "POST", "/account/password", {**body, "auth": email_stage(other)}, expect=401, errcode="M_UNAUTHORIZED"
    )
    before = len(mails.mails)
    creds = await ask(anybody, "account/password", email)
    mail = await next_mail(mails, before)
    assert user.user_id in plain(mail)
    waiting = {**body, "auth": email_stage(creds)}
    await anybody.request("POST", "/account/password", waiting, expect=401, errcode="M_UNAUTHORIZED")
    async with Browser(server.base_url) as browser:
        assert "choose a new password" in (await browser.open(link_in(mail))).text
        await browser.press("confirm")
    assert await anybody.request("POST", "/account/password", waiting) == {}
    await anybody.request("POST", "/account/password", waiting, expect=401, errcode="M_UNAUTHORIZED")
    await user.request("GET", "/account/whoami", expect=401, errcode="M_UNKNOWN_TOKEN")
    await user.login(user.user_id, NEW)
    assert await addresses(user) == [email]
    # Whoever is logged in needs the old password.
    asked = await user.request("POST", "/account/password", {"new_password": NEW}, expect=401)
    assert asked["flows"] == [{"stages": ["m.login.password"]}]


async def test_a_new_password_may_leave_devices_alone(
    server: Any, mails: MailServer, new_user: Any, anybody: Client
) -> None:
    user, email = await new_user("ada"), new_address()
    await add(server, mails, user, email)
    creds = await prove(server, mails, anybody, "account/password", email)
    asked = await anybody.request("POST", "/account/password", {"new_password": NEW}, expect=401)
    body = {"new_password": NEW, "logout_devices": False, "auth": email_stage(creds, session=asked["session"])}
    # Bound to what the session began with.
    await anybody.request("POST", "/account/password", body, expect=400, errcode="M_INVALID_PARAM")
    body["auth"].pop("session")
    await anybody.request("POST", "/account/password", body)
    await user.request("GET", "/account/whoami")


async def test_an_address_that_is_lost_meanwhile_gives_no_password(
    server: Any, mails: MailServer, new_user: Any, anybody: Client
) -> None:
    user, email = await new_user("ada"), new_address()
    await add(server, mails, user, email)
    creds = await prove(server, mails, anybody, "account/password", email)
    await user.request("POST", "/account/3pid/delete", {"medium": "email", "address": email})
    body = {"new_password": NEW, "auth": email_stage(creds)}
    await anybody.request("POST", "/account/password", body, expect=403, errcode="M_THREEPID_AUTH_FAILED")
    await user.request("GET", "/account/whoami")


async def test_an_address_belongs_to_one_account(server: Any, mails: MailServer, new_user: Any) -> None:
    ada, eve, email = await new_user("ada"), await new_user("eve"), new_address()
    first = await prove(server, mails, ada, "account/3pid", email)
    second = await prove(server, mails, eve, "account/3pid", email)
    third = await prove(server, mails, eve, "register", email)
    await ada.request("POST", "/account/3pid/add", {**first, "auth": password_stage(ada)})
    body = {**second, "auth": password_stage(eve)}
    await eve.request("POST", "/account/3pid/add", body, expect=400, errcode="M_THREEPID_IN_USE")
    async with Client(server.base_url) as client:
        name = f"third-{next(_numbers)}"
        register = {"username": name, "password": NEW, "auth": email_stage(third)}
        await client.request("POST", "/register", register, expect=400, errcode="M_THREEPID_IN_USE")
        await client.request("GET", "/register/available", params={"username": name})
    # A closed account has no address any more.
    await ada.request("POST", "/account/deactivate", {"auth": password_stage(ada)})
    await eve.request("POST", "/account/3pid/add", body)
    assert await addresses(eve) == [email]


async def test_registering_with_an_address(server: Any, mails: MailServer, connect: Any) -> None:
    client, email, name = connect(server), new_address(), f"reg-{next(_numbers)}"
    wanted = {"username": name, "password": NEW}
    asked = await client.request("POST", "/register", wanted, expect=401)
    assert ["m.login.dummy"] in [flow["stages"] for flow in asked["flows"]]
    assert ["m.login.email.identity"] in [flow["stages"] for flow in asked["flows"]]
    before = len(mails.mails)
    creds = await ask(client, "register", email)
    auth = email_stage(creds, session=asked["session"])
    waiting = await client.request("POST", "/register", {**wanted, "auth": auth}, expect=401)
    assert waiting["session"] == asked["session"]
    async with await confirm(server, link_in(await next_mail(mails, before))):
        pass
    made = await client.request("POST", "/register", {**wanted, "auth": auth})
    client.access_token = made["access_token"]
    assert await addresses(client) == [email]


async def test_addresses_can_be_required(make_server: Any, mails: MailServer, connect: Any) -> None:
    server = make_server(config=with_mail(mails, email="required", email_domains=["Example.org"]))
    client = connect(server)
    # The first account needs a mail address, too; only a token of the administrator makes it theirs.
    asked = await client.request("POST", "/register", {"username": "ada", "password": NEW}, expect=401)
    stages = [flow["stages"] for flow in asked["flows"]]
    assert stages == [["m.login.email.identity"], ["m.login.registration_token", "m.login.email.identity"]]
    body = {"username": "ada", "password": NEW, "auth": {"type": "m.login.dummy", "session": asked["session"]}}
    await client.request("POST", "/register", body, expect=401, errcode="M_UNRECOGNIZED")
    await ask(client, "register", "ada@example.com", expect=403, errcode="M_THREEPID_DENIED")
    creds = await prove(server, mails, client, "register", "ada@example.org")
    await client.request("POST", "/register", {**body, "auth": email_stage(creds, session=asked["session"])})
    async with Browser(server.base_url) as browser:
        await browser.open("/register")
        assert 'name="password"' not in browser.page.text
        await browser.press("send_mail", address="bob@example.com", expect=403)
        await browser.press("send_mail", address="nobody", expect=400)
        before = len(mails.mails)
        await browser.press("send_mail", address="bob@example.org", expect=200)
        assert "on its way" in browser.page.text
        await browser.open(link_in(await next_mail(mails, before)))
        url = str(browser.page.url)
        assert url.startswith(server.base_url + "/register?show=register&email=")
        await browser.press("register", user="bob", password=NEW, repeated=NEW)
        assert "Your account is ready" in browser.page.text
    async with Browser(server.base_url) as browser:
        assert (await browser.open(url)).status_code == 404
    bob = await connect(server).login("bob", NEW)
    assert await addresses(bob) == ["bob@example.org"]
    # The form of the last step cannot be sent without the steps before.
    async with Browser(server.base_url) as browser:
        await browser.open("/account?show=sign_in")
        [token] = set(re.findall(r'name="token_of_form" value="([^"]+)"', browser.page.text))
        form = {"do": "register", "user": "eve", "password": NEW, "repeated": NEW, "token_of_form": token}
        assert (await browser.http.post("/register", data=form)).status_code == 403
    await client.request("GET", "/register/available", params={"username": "eve"})


async def test_sessions_outlast_a_restart_and_are_stored_without_secrets(
    make_server: Any, mails: MailServer, connect: Any
) -> None:
    server = make_server(config=with_mail(mails))
    user = await connect(server).register("ada")
    before, email = len(mails.mails), new_address()
    creds = await ask(user, "account/3pid", email, client_secret="only-the-client-knows")
    link = link_in(await next_mail(mails, before))
    server.kill()
    stored = b"".join(file.read_bytes() for file in server.data_dir.glob("tinyserver.db*"))
    assert email.encode() in stored
    assert b"only-the-client-knows" not in stored
    assert link.partition("token=")[2].encode() not in stored
    server.start()
    async with await confirm(server, link):
        pass
    server.kill()
    server.start()
    await user.request("POST", "/account/3pid/add", {**creds, "auth": password_stage(user)})
    assert await addresses(user) == [email]
    assert link.partition("token=")[2] not in server.log.text()


async def test_mails_are_limited(make_server: Any, mails: MailServer, connect: Any) -> None:
    server = make_server(
        config={**with_mail(mails), "rate_limits": {"enabled": True, "mail": {"per_second": 0.001, "burst": 3}}}
    )
    client, email = connect(server), new_address()
    for number in range(3):
        await ask(client, "account/3pid", email, client_secret=f"s{number}")
    await ask(client, "account/3pid", email, expect=429, errcode="M_LIMIT_EXCEEDED")
    await ask(client, "register", new_address(), expect=429, errcode="M_LIMIT_EXCEEDED")


async def test_the_language_of_mails(server: Any, mails: MailServer, anybody: Client) -> None:
    before = len(mails.mails)
    body = {"client_secret": "s", "email": new_address(), "send_attempt": 1}
    path = "/_matrix/client/unstable/account/3pid/email/requestToken"
    await anybody.request("POST", path, body, headers={"Accept-Language": "de"})
    mail = await next_mail(mails, before)
    assert "Bestätige" in mail["Subject"]
    assert 'lang="de"' in html(mail)


async def test_telephone_numbers(anybody: Client, new_user: Any) -> None:
    body = {"client_secret": "s", "country": "GB", "phone_number": "07700900001", "send_attempt": 1}
    for what in ("register", "account/password", "account/3pid"):
        path = f"/_matrix/client/r0/{what}/msisdn/requestToken"
        await anybody.request("POST", path, body, expect=400, errcode="M_THREEPID_MEDIUM_NOT_SUPPORTED")
    user = await new_user("ada")
    for bad in ({"medium": "email", "address": "x"}, {"medium": "msisdn", "address": "+44"}):
        await user.request("POST", "/account/3pid/delete", bad, expect=400, errcode="M_INVALID_PARAM")
    await user.request("POST", "/account/3pid/delete", {"medium": "x", "address": "y"}, expect=400)


async def test_without_a_mail_server_nothing_is_offered(make_server: Any, connect: Any) -> None:
    server = make_server(config={"registration": {"mode": "open"}})
    user = await connect(server).register("ada")
    for what in ("register", "account/password", "account/3pid"):
        await ask(user, what, "ada@example.org", expect=400, errcode="M_THREEPID_MEDIUM_NOT_SUPPORTED")
    capabilities = (await user.request("GET", "/capabilities"))["capabilities"]
    assert capabilities["m.3pid_changes"] == {"enabled": False}
    client = connect(server)
    asked = await client.request("POST", "/account/password", {"new_password": NEW}, expect=401)
    assert asked["flows"] == [{"stages": ["m.login.password"]}]
    asked = await client.request("POST", "/register", {"username": "bob", "password": NEW}, expect=401)
    assert asked["flows"] == [{"stages": ["m.login.dummy"]}]


async def test_a_lost_password_on_the_pages(server: Any, mails: MailServer, new_user: Any) -> None:
    user, email = await new_user("ada"), new_address()
    await add(server, mails, user, email)
    async with Browser(server.base_url) as browser:
        await browser.open("/oauth2/sso?redirectUrl=https://app.example.com/")
        assert "Forgot your password?" in browser.page.text
        await browser.open(str(browser.page.url) + "&show=recover")
        before = len(mails.mails)
        await browser.press("send_mail", address=email.upper(), expect=200)
        mail = await next_mail(mails, before)
    # Not to where somebody else may have begun it.
    assert link_in(mail).startswith(server.base_url + "/account?show=recover&email=")
    async with Browser(server.base_url) as browser:
        await browser.open(link_in(mail))
        await browser.press("reset_password", password=NEW, repeated="other", expect=400)
        await browser.press("reset_password", password="short", repeated="short", expect=400)
        await user.request("GET", "/account/whoami")
        await browser.press("reset_password", password=NEW, repeated=NEW, logout="1", expect=200)
        assert user.user_id in browser.page.text
        assert (await browser.open(link_in(mail))).status_code == 404
    await user.request("GET", "/account/whoami", expect=401)
    await user.login(user.user_id, NEW)
    # A mail for one thing is no good for another.
    before = len(mails.mails)
    await ask(user, "account/password", email)
    other = link_in(await next_mail(mails, before))
    async with Browser(server.base_url) as browser:
        await browser.open("/account?show=recover&email=" + other.partition("token=")[2])
        assert browser.page.status_code == 404


async def test_clients_without_a_stage_for_mail_show_a_page(server: Any, mails: MailServer, anybody: Client) -> None:
    name, email = f"fallback-{next(_numbers)}", new_address()
    wanted = {"username": name, "password": NEW}
    session = (await anybody.request("POST", "/register", wanted, expect=401))["session"]
    path = f"/_matrix/client/v3/auth/m.login.email.identity/fallback/web?session={session}"
    before = len(mails.mails)
    assert 'name="email"' in (await anybody.raw("GET", path)).text
    assert (await anybody.http.post(path, data={"email": "x"})).status_code == 400
    page = await anybody.http.post(path, data={"email": email})
    fields = dict(re.findall(r'name="(\w+)" value="([^"]+)"', page.text))
    assert (await anybody.http.post(path, data=fields)).status_code == 401
    async with await confirm(server, link_in(await next_mail(mails, before))):
        pass
    assert "go back to your client" in (await anybody.http.post(path, data=fields)).text
    made = await anybody.request("POST", "/register", {**wanted, "auth": {"session": session}})
    assert made["user_id"] == f"@{name}:tiny.test"
    anybody.access_token = made["access_token"]
    assert await addresses(anybody) == [email]
    gone = await anybody.http.post(path.replace(session, "nothing"), data={"email": email})
    assert gone.status_code == 404


async def test_an_administrator_sets_addresses(make_server: Any, connect: Any) -> None:
    server = make_server(config={"registration": {"mode": "open"}})
    user, other = await connect(server).register("ada"), await connect(server).register("eve")

    async def command(*words: str) -> Any:
        return await asyncio.to_thread(server.command, "email", *words, "--config", str(server.config_file))

    assert "ada@example.org belongs to @ada:tiny.test" in (await command("add", "ada", "Ada@Example.org")).stdout
    assert await addresses(user) == ["ada@example.org"]
    refused = await command("add", other.user_id, "ada@example.org")
    assert refused.returncode == 1
    assert "another account" in refused.stderr
    assert "no such account" in (await command("list", "nobody")).stderr
    assert "mail address such as" in (await command("add", "eve", "nothing")).stderr
    root, path = await connect(server).register("root", admin=True), "/_tinyserver/admin/v1/commands"
    chief = await connect(server).register("chief", admin=True)
    wanted = {"command": "email add", "arguments": {"user": chief.user_id, "address": "root@example.org"}}
    await root.request("POST", path, wanted, expect=403, errcode="M_FORBIDDEN")
    await asyncio.to_thread(server.stop)
    await command("add", "ada", "lovelace@example.org")
    assert "no more" in (await command("remove", "ada", "ada@example.org")).stdout
    listed = (await command("list", "ada")).stdout
    assert "lovelace@example.org" in listed
    assert "ada@example.org" not in listed


async def test_addresses_on_the_account_pages(server: Any, mails: MailServer, new_user: Any) -> None:
    user, email = await new_user("ada"), new_address()
    async with Browser(server.base_url) as browser:
        await browser.open("/account")
        await browser.press("sign_in", user=user.localpart, password=user.password)
        assert "Mail addresses" in browser.page.text
        await browser.open("/account?action=emails")
        await browser.press("add_email", address=email, current="wrong", expect=403)
        await browser.press("add_email", address="nobody", current=user.password, expect=400)
        before = len(mails.mails)
        await browser.press("add_email", address=email, current=user.password, expect=200)
    link = link_in(await next_mail(mails, before))
    async with Browser(server.base_url) as browser:
        await browser.open(link)
        await browser.press("sign_in", user=user.localpart, password=user.password)
        assert email in browser.page.text
        assert await addresses(user) == []
        await browser.press("confirm_email")
        assert await addresses(user) == [email]
        assert (await browser.open(link)).status_code == 404
        await browser.open("/account?action=emails")
        assert email in browser.page.text
        await browser.press("remove_email")
        assert await addresses(user) == []
        assert email not in browser.page.text


def test_the_doctor_looks_at_the_mail_server(make_server: Any, mails: MailServer) -> None:
    server = make_server(start=False, config=with_mail(mails))
    server.init()
    assert "ok    the mail server 127.0.0.1 can be reached" in examined(server)
    server.write_config({"smtp": {"tls": "starttls"}})
    assert f"WRONG the mail server 127.0.0.1:{mails.port} takes no mails" in examined(server)
    server.write_config({"smtp": {"port": 9}})
    assert "WRONG the mail server 127.0.0.1:9 takes no mails" in examined(server)


def examined(server: Any) -> str:
    found: str = server.command("doctor", "--config", str(server.config_file)).stdout
    return found
