"""Making accounts: interactive authentication, names, guests, registration tokens, the shared secret."""

from __future__ import annotations

import hashlib
import hmac
import re
from typing import Any

import pytest

from .client import SHARED_SECRET, Client

SERVER_CONFIG = {"registration": {"mode": "open", "allow_guests": True}}

DUMMY = {"type": "m.login.dummy"}


@pytest.fixture
def anybody(server: Any, connect: Any) -> Client:
    """A client without an account."""
    return connect(server)


async def test_register_and_use_the_account(anybody: Client) -> None:
    asked = await anybody.request("POST", "/register", {"username": "Rosa", "password": "p4ss-word"}, expect=401)
    assert {"stages": ["m.login.dummy"]} in asked["flows"]
    assert "errcode" not in asked
    body = {
        "username": "Rosa",
        "password": "p4ss-word",
        "device_id": "PHONE",
        "initial_device_display_name": "Rosa's phone",
        "auth": {**DUMMY, "session": asked["session"]},
    }
    done = await anybody.request("POST", "/register", body)
    assert done["user_id"] == "@rosa:tiny.test"
    assert done["device_id"] == "PHONE"
    assert done["access_token"].startswith("tsa_")
    assert "refresh_token" not in done
    anybody.access_token = done["access_token"]
    assert await anybody.request("GET", "/account/whoami") == {
        "user_id": "@rosa:tiny.test",
        "device_id": "PHONE",
        "is_guest": False,
    }


async def test_auth_without_a_session_is_enough(anybody: Client) -> None:
    done = await anybody.request("POST", "/register", {"username": "quick", "password": "x" * 9, "auth": DUMMY})
    assert done["user_id"] == "@quick:tiny.test"


async def test_inhibit_login(anybody: Client) -> None:
    body = {"username": "later", "password": "x" * 9, "inhibit_login": True, "auth": DUMMY}
    done = await anybody.request("POST", "/register", body)
    assert done["user_id"] == "@later:tiny.test"
    assert "access_token" not in done
    assert "device_id" not in done


async def test_name_is_made_up(anybody: Client) -> None:
    done = await anybody.request("POST", "/register", {"password": "x" * 9, "auth": DUMMY})
    assert re.fullmatch(r"@[a-z0-9._=/+-]+:tiny\.test", done["user_id"])


async def test_flows_can_be_asked_for_without_anything(anybody: Client) -> None:
    for options in ({"json": {}}, {"content": b""}):
        asked = await anybody.request("POST", "/register", expect=401, **options)
        # The parameters may come later, with the session.
    body = {"username": "slow", "password": "x" * 9, "auth": {**DUMMY, "session": asked["session"]}}
    await anybody.request("POST", "/register", body)


async def test_parameters_are_bound_to_the_session(anybody: Client) -> None:
    first = {"username": "bound", "password": "x" * 9}
    session = (await anybody.request("POST", "/register", first, expect=401))["session"]
    other = {"username": "bound-2", "password": "x" * 9, "auth": {**DUMMY, "session": session}}
    await anybody.request("POST", "/register", other, expect=400, errcode="M_INVALID_PARAM")
    await anybody.request("POST", "/register", {**first, "auth": {**DUMMY, "session": session}})


async def test_unknown_session_begins_anew(anybody: Client) -> None:
    body = {"username": "anew", "password": "x" * 9, "auth": {**DUMMY, "session": "gone"}}
    asked = await anybody.request("POST", "/register", body, expect=401, errcode="M_UNAUTHORIZED")
    await anybody.request("POST", "/register", {**body, "auth": {**DUMMY, "session": asked["session"]}})


async def test_session_is_spent(anybody: Client) -> None:
    first = {"username": "spent", "password": "x" * 9}
    session = (await anybody.request("POST", "/register", first, expect=401))["session"]
    done = {**first, "auth": {**DUMMY, "session": session}}
    await anybody.request("POST", "/register", done)
    await anybody.request("POST", "/register", done, expect=400, errcode="M_USER_IN_USE")
    again = {"username": "spent-2", "password": "x" * 9, "auth": {**DUMMY, "session": session}}
    await anybody.request("POST", "/register", again, expect=401, errcode="M_UNAUTHORIZED")


async def test_unknown_stage(anybody: Client) -> None:
    body = {"username": "stage", "password": "x" * 9, "auth": {"type": "m.login.sso"}}
    asked = await anybody.request("POST", "/register", body, expect=401, errcode="M_UNRECOGNIZED")
    assert asked["flows"]
    assert asked["session"]


@pytest.mark.parametrize(
    ("username", "errcode"),
    [
        ("", "M_INVALID_USERNAME"),
        ("two words", "M_INVALID_USERNAME"),
        ("exclaim!", "M_INVALID_USERNAME"),
        ("@whole:tiny.test", "M_INVALID_USERNAME"),
        ("ümlaut", "M_INVALID_USERNAME"),
        ("İ", "M_INVALID_USERNAME"),
        ("x" * 250, "M_INVALID_USERNAME"),
        ("nul\0", "M_INVALID_USERNAME"),
        (17, "M_BAD_JSON"),
        (["a"], "M_BAD_JSON"),
    ],
)
async def test_names_that_cannot_be_had(anybody: Client, username: Any, errcode: str) -> None:
    # Before any authentication, and with it.
    for extra in ({}, {"auth": DUMMY}):
        body = {"username": username, "password": "x" * 9, **extra}
        await anybody.request("POST", "/register", body, expect=400, errcode=errcode)
    if isinstance(username, str):
        params = {"username": username}
        await anybody.request("GET", "/register/available", params=params, expect=400, errcode=errcode)


async def test_name_in_use(anybody: Client, new_user: Any) -> None:
    user = await new_user("taken")
    for name in (user.localpart, user.localpart.upper()):
        body = {"username": name, "password": "x" * 9}
        await anybody.request("POST", "/register", body, expect=400, errcode="M_USER_IN_USE")
        params = {"username": name}
        await anybody.request("GET", "/register/available", params=params, expect=400, errcode="M_USER_IN_USE")


async def test_available(anybody: Client) -> None:
    assert await anybody.request("GET", "/register/available", params={"username": "nobody-yet"}) == {"available": True}
    await anybody.request("GET", "/register/available", expect=400, errcode="M_MISSING_PARAM")


@pytest.mark.parametrize("password", ["", "x" * 513, "ä" * 257])
async def test_weak_passwords(anybody: Client, password: str) -> None:
    body = {"username": "weak", "password": password, "auth": DUMMY}
    await anybody.request("POST", "/register", body, expect=400, errcode="M_WEAK_PASSWORD")


async def test_password_is_missing(anybody: Client) -> None:
    body = {"username": "no-password", "auth": DUMMY}
    await anybody.request("POST", "/register", body, expect=400, errcode="M_MISSING_PARAM")


@pytest.mark.parametrize("device_id", ["x" * 256, "a\nb"])
async def test_bad_device_id(anybody: Client, device_id: str) -> None:
    body = {"username": "bad-device", "password": "x" * 9, "device_id": device_id, "auth": DUMMY}
    await anybody.request("POST", "/register", body, expect=400, errcode="M_INVALID_PARAM")


@pytest.mark.parametrize("auth", [[], "x", 1])
async def test_auth_of_wrong_type(anybody: Client, auth: Any) -> None:
    body = {"username": "wrong-auth", "password": "x" * 9, "auth": auth}
    await anybody.request("POST", "/register", body, expect=400, errcode="M_BAD_JSON")


@pytest.mark.parametrize(
    "auth", [{"type": 1}, {"type": ["m.login.dummy"]}, {"type": {}}, {"session": 3}, {"session": []}]
)
async def test_auth_with_wrong_types_inside(anybody: Client, auth: Any) -> None:
    body = {"username": "wrong-inside", "password": "x" * 9, "auth": auth}
    asked = await anybody.request("POST", "/register", body, expect=401)
    assert asked["session"]


async def test_guest(anybody: Client) -> None:
    body = {"device_id": "IGNORED", "username": "ignored", "initial_device_display_name": "Peephole"}
    done = await anybody.request("POST", "/register", body, params={"kind": "guest"})
    assert done["user_id"].startswith("@guest-")
    assert done["device_id"] != "IGNORED"
    anybody.access_token = done["access_token"]
    assert (await anybody.request("GET", "/account/whoami"))["is_guest"] is True
    await anybody.request(
        "POST", "/account/password", {"new_password": "x" * 9}, expect=403, errcode="M_GUEST_ACCESS_FORBIDDEN"
    )


async def test_guest_becomes_an_account(anybody: Client) -> None:
    guest = await anybody.request("POST", "/register", {}, params={"kind": "guest"})
    name = guest["user_id"][1:].split(":")[0]
    body = {"username": name, "password": "grown-up-now", "guest_access_token": guest["access_token"], "auth": DUMMY}
    wrong = {**body, "username": "somebody-else"}
    await anybody.request("POST", "/register", wrong, expect=400, errcode="M_INVALID_USERNAME")
    wrong = {**body, "guest_access_token": "nonsense"}
    await anybody.request("POST", "/register", wrong, expect=403, errcode="M_UNKNOWN_TOKEN")
    done = await anybody.request("POST", "/register", body)
    assert done["user_id"] == guest["user_id"]
    anybody.access_token = done["access_token"]
    assert (await anybody.request("GET", "/account/whoami"))["is_guest"] is False
    await anybody.request("POST", "/register", body, expect=403, errcode="M_UNKNOWN_TOKEN")


async def test_unknown_kind(anybody: Client) -> None:
    params = {"kind": "robot"}
    await anybody.request("POST", "/register", {}, params=params, expect=400, errcode="M_INVALID_PARAM")


async def test_no_guests(make_server: Any, connect: Any) -> None:
    client = connect(make_server(config={"registration": {"allow_guests": False}}))
    await client.request("POST", "/register", {}, params={"kind": "guest"}, expect=403, errcode="M_FORBIDDEN")


async def test_closed(make_server: Any, connect: Any) -> None:
    server = make_server(config={"registration": {"mode": "closed"}})
    client = connect(server)
    body = {"username": "nobody", "password": "x" * 9}
    await client.request("POST", "/register", body, expect=403, errcode="M_FORBIDDEN")
    path = "/_matrix/client/v1/register/m.login.registration_token/validity"
    await client.request("GET", path, params={"token": "x"}, expect=403, errcode="M_FORBIDDEN")
    # Who administers the server makes accounts all the same.
    await client.register("by-secret")
    assert "tinyserver user create NAME --admin --config " in server.log.text()


# The first account


async def test_first_account_administers(make_server: Any, connect: Any) -> None:
    server = make_server(config={"registration": {"mode": "token"}})
    validity = "/_matrix/client/v1/register/m.login.registration_token/validity"
    token = re.search(r"one account:\s+(\S+)", server.log.text())[1]
    server.restart()
    link = f"{server.base_url}/register?token={token}"
    assert server.log.text().count(link) == 2, "the same token is told again while it is not used"
    client = connect(server)
    assert await client.request("GET", validity, params={"token": token}) == {"valid": True}
    assert await client.request("GET", validity, params={"token": "wrong"}) == {"valid": False}

    body = {"username": "mother", "password": "x" * 9}
    asked = await client.request("POST", "/register", body, expect=401)
    assert asked["flows"] == [{"stages": ["m.login.registration_token", "m.login.dummy"]}]
    await client.request("POST", "/register", {**body, "auth": DUMMY}, expect=401, errcode="M_UNRECOGNIZED")
    stage = {"type": "m.login.registration_token", "session": asked["session"]}
    wrong = {**body, "auth": {**stage, "token": "wrong"}}
    await client.request("POST", "/register", wrong, expect=401, errcode="M_UNAUTHORIZED")
    wrong = {**body, "auth": {**stage, "token": 7}}
    await client.request("POST", "/register", wrong, expect=401, errcode="M_MISSING_PARAM")
    asked = await client.request("POST", "/register", {**body, "auth": {**stage, "token": token}}, expect=401)
    assert asked["completed"] == ["m.login.registration_token"]
    last = {**body, "auth": {**DUMMY, "session": asked["session"]}}
    client._become(await client.request("POST", "/register", last), "x" * 9)

    # One use: and it is an administrator who sees others' sessions.
    assert await client.request("GET", validity, params={"token": token}) == {"valid": False}
    child = await connect(server).register("child")
    await client.request("GET", f"/admin/whois/{child.user_id}")
    await child.request("GET", f"/admin/whois/{client.user_id}", expect=403, errcode="M_FORBIDDEN")
    mark = server.log.mark()
    server.restart()
    assert token not in server.log.text(mark)


async def test_first_token_ends_with_any_first_account(make_server: Any, connect: Any) -> None:
    server = make_server(config={"registration": {"mode": "open"}})
    token = re.search(r"one account:\s+(\S+)", server.log.text())[1]
    client = connect(server)
    asked = await client.request("POST", "/register", {}, expect=401)
    assert asked["flows"] == [
        {"stages": ["m.login.dummy"]},
        {"stages": ["m.login.registration_token", "m.login.dummy"]},
    ]
    await client.register("by-secret")
    body = {"username": "late", "password": "x" * 9, "auth": {"type": "m.login.registration_token", "token": token}}
    await connect(server).request("POST", "/register", body, expect=401)
    asked = await connect(server).request("POST", "/register", {}, expect=401)
    assert asked["flows"] == [{"stages": ["m.login.dummy"]}]


# The shared secret

PATH = "/_synapse/admin/v1/register"


def proof(nonce: str, *parts: str, secret: str = SHARED_SECRET) -> str:
    return hmac.new(secret.encode(), "\0".join((nonce, *parts)).encode(), hashlib.sha1).hexdigest()


async def test_shared_secret_with_user_type(anybody: Client) -> None:
    nonce = (await anybody.request("GET", PATH))["nonce"]
    mac = proof(nonce, "typed", "x" * 9, "notadmin", "support")
    body = {"nonce": nonce, "username": "typed", "password": "x" * 9, "user_type": "support", "mac": mac}
    done = await anybody.request("POST", PATH, body)
    assert done["user_id"] == "@typed:tiny.test"
    assert done["home_server"] == "tiny.test"


async def test_shared_secret_with_a_name(anybody: Client) -> None:
    for displayname, status in (("The Named", 200), ("x" * 500, 400)):
        nonce = (await anybody.request("GET", PATH))["nonce"]
        name = f"named-{status}"
        body = {"nonce": nonce, "username": name, "displayname": displayname, "password": "x" * 9}
        body["mac"] = proof(nonce, name, "x" * 9, "notadmin")
        await anybody.request("POST", PATH, body, expect=status)
    assert await anybody.request("GET", "/profile/@named-200:tiny.test") == {"displayname": "The Named"}
    await anybody.request("GET", "/profile/@named-400:tiny.test", expect=404)


async def test_shared_secret_wrong(anybody: Client) -> None:
    nonce = (await anybody.request("GET", PATH))["nonce"]
    body = {"nonce": nonce, "username": "forged", "password": "x" * 9, "mac": proof(nonce, "forged", "y", "notadmin")}
    await anybody.request("POST", PATH, body, expect=403, errcode="M_FORBIDDEN")
    # The nonce is spent even so.
    body["mac"] = proof(nonce, "forged", "x" * 9, "notadmin")
    await anybody.request("POST", PATH, body, expect=400, errcode="M_INVALID_PARAM")
    nonce = (await anybody.request("GET", PATH))["nonce"]
    # Who is no administrator cannot become one by a proof for an ordinary account.
    body |= {"nonce": nonce, "mac": proof(nonce, "forged", "x" * 9, "notadmin"), "admin": True}
    await anybody.request("POST", PATH, body, expect=403, errcode="M_FORBIDDEN")
    nonce = (await anybody.request("GET", PATH))["nonce"]
    body = {"nonce": nonce, "username": "a\0b", "password": "c", "mac": "ä"}
    await anybody.request("POST", PATH, body, expect=400, errcode="M_INVALID_PARAM")
    nonce = (await anybody.request("GET", PATH))["nonce"]
    body = {"nonce": nonce, "username": "a", "password": "c", "mac": "ä"}
    await anybody.request("POST", PATH, body, expect=403, errcode="M_FORBIDDEN")


async def test_shared_secret_not_offered(make_server: Any, connect: Any) -> None:
    client = connect(make_server(config={"registration": {"shared_secret": ""}}))
    await client.request("GET", PATH, expect=403, errcode="M_FORBIDDEN")
    body = {"nonce": "", "username": "a", "password": "c", "mac": proof("", "a", "c", "notadmin", secret="")}
    await client.request("POST", PATH, body, expect=403, errcode="M_FORBIDDEN")
