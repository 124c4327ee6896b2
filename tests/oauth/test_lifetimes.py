"""What ends by itself, on a turned clock: codes, mailboxes, signed-in browsers, permissions, unused clients."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from tests.accounts.world import ORIGIN, World
from tinyserver.accounts.uia import UserInteractionRequired
from tinyserver.encryption.identity_resets import RESET_SECONDS, IdentityResets
from tinyserver.oauth.browser_sessions import IDLE_SECONDS, BrowserSessions
from tinyserver.oauth.clients import MAX_CLIENTS, UNUSED_MS, OAuthClients
from tinyserver.oauth.codes import CODE_SECONDS, DEVICE_CODE_SECONDS, AuthorizationCodes, DeviceGrants
from tinyserver.oauth.rendezvous import LIFETIME_SECONDS, Mailboxes
from tinyserver.oauth.tokens import REPEAT_SECONDS, OAuthTokens
from tinyserver.protocol.errors import NotFound
from tinyserver.protocol.oauth.errors import OAuthError
from tinyserver.protocol.oauth.requests import AuthorizationRequest, Scope
from tinyserver.storage import accounts, oauth_clients

URI = "https://example.com/callback"
VERIFIER = "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk"
REQUEST = AuthorizationRequest(
    URI, None, "query", "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM", Scope("ABC", "x"), frozenset(), ""
)


class Parts(World):
    """OAuth on top of the accounts."""

    def __init__(self, directory: Path) -> None:
        super().__init__(directory)
        self.clients = OAuthClients(self.db, self.clock)
        self.codes = AuthorizationCodes(self.time.monotonic)
        self.devices = DeviceGrants(self.time.monotonic)
        self.oauth = OAuthTokens(self.db, self.sessions, self.codes, self.devices, self.time.monotonic)
        self.browsers = BrowserSessions(self.db, self.time.monotonic)

    async def client(self, name: str = "x") -> str:
        """The ID of a registered client."""
        metadata = {"client_uri": "https://example.com/", "redirect_uris": [URI], "client_name": name}
        return str((await self.clients.register(metadata))["client_id"])

    def user(self, user_id: str) -> int:
        """The number of a user."""
        account = self.db.glance(lambda tx: accounts.find(tx, user_id))
        assert account is not None
        return account.nid


@pytest_asyncio.fixture
async def parts(tmp_path: Path) -> AsyncIterator[Parts]:
    made = Parts(tmp_path)
    made.db.start()
    yield made
    await made.close()


async def test_a_code_is_good_for_a_minute(parts: Parts) -> None:
    early, late = parts.codes.issue(1, 2, REQUEST), parts.codes.issue(1, 2, REQUEST)
    parts.time.pass_(CODE_SECONDS - 1)
    assert parts.codes.take(early, 1, URI, VERIFIER).user == 2
    parts.time.pass_(2)
    with pytest.raises(OAuthError) as caught:
        parts.codes.take(late, 1, URI, VERIFIER)
    assert caught.value.code == "invalid_grant"


async def test_a_wrong_try_uses_a_code_up(parts: Parts) -> None:
    code = parts.codes.issue(1, 2, REQUEST)
    for verifier in ("x" * 43, VERIFIER):
        with pytest.raises(OAuthError):
            parts.codes.take(code, 1, URI, verifier)


async def test_device_codes_end_and_slow_down(parts: Parts) -> None:
    code, grant = parts.devices.issue(1, Scope("ABC", "x"), "192.0.2.1")

    def poll() -> str:
        with pytest.raises(OAuthError) as caught:
            parts.devices.poll(code, 1)
        return caught.value.code

    assert poll() == "authorization_pending"
    parts.time.pass_(1)
    assert poll() == "slow_down"
    parts.time.pass_(6)
    assert poll() == "slow_down"
    parts.time.pass_(16)
    assert poll() == "authorization_pending"
    assert parts.devices.of_user_code(grant.user_code) is grant
    parts.time.pass_(DEVICE_CODE_SECONDS)
    assert parts.devices.of_user_code(grant.user_code) is None
    assert poll() == "expired_token"
    assert poll() == "invalid_grant"


async def test_codes_do_not_pile_up(parts: Parts) -> None:
    first = parts.codes.issue(1, 2, REQUEST)
    for _ in range(1000):
        last = parts.codes.issue(1, 2, REQUEST)
    with pytest.raises(OAuthError):
        parts.codes.take(first, 1, URI, VERIFIER)
    assert parts.codes.take(last, 1, URI, VERIFIER)
    _, old = parts.devices.issue(1, Scope("ABC", "x"), "")
    for _ in range(1000):
        _, new = parts.devices.issue(1, Scope("ABC", "x"), "")
    assert parts.devices.of_user_code(old.user_code) is None
    assert parts.devices.of_user_code(new.user_code) is new


async def test_a_refresh_is_repeated_for_a_little_while_only(parts: Parts) -> None:
    made, _ = await parts.account()
    client = parts.clients.must_find(await parts.client())
    code = parts.codes.issue(client.nid, parts.user(made.user_id), REQUEST)
    first = (await parts.oauth.exchange_code(client, code, URI, VERIFIER, ORIGIN)).tokens
    assert first.refresh_token is not None
    second = (await parts.oauth.refresh(client, first.refresh_token)).tokens
    parts.time.pass_(REPEAT_SECONDS - 1)
    assert (await parts.oauth.refresh(client, first.refresh_token)).tokens == second
    parts.time.pass_(2)
    # Nobody used the second: the answer may have been lost, so there are other ones.
    third = (await parts.oauth.refresh(client, first.refresh_token)).tokens
    assert third != second
    assert third.refresh_token is not None
    parts.time.pass_(REPEAT_SECONDS + 1)
    await parts.oauth.refresh(client, third.refresh_token)
    # The third was used, so the first is stolen: everything ends.
    for token in (first.refresh_token, third.refresh_token):
        with pytest.raises(OAuthError) as caught:
            await parts.oauth.refresh(client, token)
        assert caught.value.code == "invalid_grant"


async def test_an_expired_refresh_token_is_no_theft(parts: Parts) -> None:
    made, _ = await parts.account()
    client = parts.clients.must_find(await parts.client())
    user = parts.user(made.user_id)
    code = parts.codes.issue(client.nid, user, REQUEST)
    tokens = (await parts.oauth.exchange_code(client, code, URI, VERIFIER, ORIGIN)).tokens
    parts.time.pass_(3601)
    with pytest.raises(OAuthError):
        await parts.oauth.refresh(client, tokens.refresh_token or "")
    # The device is there still, with its keys: the user signs in to it again.
    code = parts.codes.issue(client.nid, user, REQUEST)
    assert (await parts.oauth.exchange_code(client, code, URI, VERIFIER, ORIGIN)).tokens.device_id == "ABC"


async def test_a_browser_is_forgotten_after_an_hour_without_use(parts: Parts) -> None:
    made, _ = await parts.account()
    cookie = parts.browsers.open(made.user_id)
    for _ in range(3):
        parts.time.pass_(IDLE_SECONDS - 1)
        assert parts.browsers.find(cookie) is not None
    parts.time.pass_(IDLE_SECONDS)
    assert parts.browsers.find(cookie) is None
    assert parts.browsers.find("nonsense") is None


async def test_a_mailbox_lives_for_minutes(parts: Parts) -> None:
    mailboxes = Mailboxes(parts.time.monotonic, parts.clock.now_ms)
    made = mailboxes.create(b"x")
    parts.time.pass_(LIFETIME_SECONDS - 1)
    mailboxes.put(made.mailbox_id, made.version, b"y")  # writing does not make it live longer
    parts.time.pass_(1)
    with pytest.raises(NotFound):
        mailboxes.get(made.mailbox_id)
    mailboxes.create(b"z")
    assert len(mailboxes) == 1


async def test_a_reset_is_allowed_for_ten_minutes(parts: Parts) -> None:
    resets = IdentityResets(parts.time.monotonic)
    resets.allow(7)
    parts.time.pass_(RESET_SECONDS - 1)
    resets.check(7, None, "")
    with pytest.raises(UserInteractionRequired):
        resets.check(8, None, "")
    parts.time.pass_(1)
    with pytest.raises(UserInteractionRequired):
        resets.check(7, None, "")


async def test_clients_that_nobody_uses_go(parts: Parts) -> None:
    made, _ = await parts.account()
    used, unused = await parts.client("used"), await parts.client("unused")
    client = parts.clients.must_find(used)
    code = parts.codes.issue(client.nid, parts.user(made.user_id), REQUEST)
    await parts.oauth.exchange_code(client, code, URI, VERIFIER, ORIGIN)
    parts.time.pass_(UNUSED_MS / 1000 + 1)
    await parts.client("new")
    assert parts.clients.find(used) is not None
    assert parts.clients.find(unused) is None
    with pytest.raises(OAuthError) as caught:
        parts.clients.must_find(unused)
    assert (caught.value.code, caught.value.status) == ("invalid_client", 401)


async def test_there_are_only_so_many_clients(parts: Parts) -> None:
    first = await parts.client("first")
    now = parts.clock.now_ms()
    await parts.db.write(
        lambda tx: [oauth_clients.add(tx, f"c{n}", "{}", now + 1) for n in range(MAX_CLIENTS - 1)] and None
    )
    parts.time.pass_(1)
    last = await parts.client("last")
    assert parts.clients.find(first) is None
    assert parts.clients.find(last) is not None
