"""A client that signs its user in with OAuth, and the web browser of that user, as far as plain forms go."""

from __future__ import annotations

import hashlib
import re
import secrets
from base64 import urlsafe_b64encode
from collections.abc import Mapping
from html import unescape
from typing import Any
from urllib.parse import parse_qs, urlencode, urljoin, urlsplit

import httpx

DEVICE_GRANT = "urn:ietf:params:oauth:grant-type:device_code"
WEB_CLIENT = {
    "client_name": "Web Messenger",
    "client_uri": "https://app.example.com/",
    "redirect_uris": ["https://app.example.com/callback"],
    "grant_types": ["authorization_code", "refresh_token", DEVICE_GRANT],
    "response_types": ["code"],
    "token_endpoint_auth_method": "none",
    "application_type": "web",
}
_FORM = re.compile(r'<form method="(post|get)">(.*?)</form>', re.DOTALL)
_INPUT = re.compile(r"<input ([^>]*)>")
_BUTTON = re.compile(r'<button name="do" value="([^"]*)"')


def attributes(tag: str) -> dict[str, str]:
    """The attributes of a tag that have a value."""
    return {name: unescape(value) for name, value in re.findall(r'([a-z-]+)="([^"]*)"', tag)}


class Browser:
    """A browser without scripts. It follows redirects on the server itself, and stops at those that lead elsewhere."""

    def __init__(self, base_url: str, language: str = "en") -> None:
        headers = {"Accept-Language": language, "User-Agent": "TestBrowser/1.0"}
        self.http = httpx.AsyncClient(base_url=base_url, headers=headers, trust_env=False, timeout=60)
        self.base_url = base_url
        self.page: httpx.Response

    async def __aenter__(self) -> Browser:
        return self

    async def __aexit__(self, *exception: object) -> None:
        await self.http.aclose()

    async def open(self, url: str) -> httpx.Response:
        """Go to a URL, absolute or below the server."""
        return await self._arrive(await self.http.get(urljoin(self.base_url, url)))

    async def press(self, action: str, expect: int | None = None, **fields: str) -> httpx.Response:
        """Fill the form with this button in, and send it."""
        for _, content in _FORM.findall(self.page.text):
            if action in _BUTTON.findall(content):
                inputs = [attributes(tag) for tag in _INPUT.findall(content)]
                given = {each["name"]: each.get("value", "") for each in inputs if each.get("type") != "checkbox"}
                names = {each["name"] for each in inputs}
                assert set(fields) <= names, f"the form has {names}"
                body = {**given, **fields, "do": action}
                answer = await self._arrive(await self.http.post(str(self.page.url), data=body))
                assert expect is None or answer.status_code == expect, answer.text
                return answer
        raise AssertionError(f"no button {action} on the page:\n{self.page.text}")

    async def _arrive(self, answer: httpx.Response) -> httpx.Response:
        while answer.is_redirect:
            target = urljoin(str(answer.url), answer.headers["location"])
            if not target.startswith(self.base_url + "/"):
                return answer  # the page stays where it is
            answer = await self.http.get(target)
        self.page = answer
        return answer


class App:
    """A client: it is registered, sends browsers to the server, and exchanges codes for tokens."""

    def __init__(self, http: httpx.AsyncClient, metadata: Mapping[str, Any] = WEB_CLIENT) -> None:
        self.http = http
        self.metadata = dict(metadata)
        self.client_id = ""
        self.verifier = ""
        self.state = ""
        self.redirect_uri = self.metadata["redirect_uris"][0] if self.metadata.get("redirect_uris") else ""
        self.device_id = "DEV" + secrets.token_hex(6).upper()

    async def register(self) -> App:
        answer = await self.http.post("/oauth2/clients", json=self.metadata)
        assert answer.status_code == 201, answer.text
        self.client_id = answer.json()["client_id"]
        return self

    @property
    def scope(self) -> str:
        return f"urn:matrix:client:api:* urn:matrix:client:device:{self.device_id}"

    def authorization(self, **changed: str | None) -> str:
        """The URL to which the browser is sent, with parameters changed or (None) left out."""
        self.verifier, self.state = secrets.token_urlsafe(48), secrets.token_urlsafe(8)
        challenge = urlsafe_b64encode(hashlib.sha256(self.verifier.encode()).digest()).rstrip(b"=").decode()
        parameters = {
            "client_id": self.client_id,
            "response_type": "code",
            "response_mode": "fragment",
            "redirect_uri": self.redirect_uri,
            "scope": self.scope,
            "state": self.state,
            "code_challenge": challenge,
            "code_challenge_method": "S256",
            **changed,
        }
        return "/oauth2/authorize?" + urlencode({key: value for key, value in parameters.items() if value is not None})

    def answer_in(self, location: str) -> dict[str, str]:
        """What came back to the client; the state must be its own."""
        parts = urlsplit(location)
        answer = {key: value[0] for key, value in parse_qs(parts.fragment or parts.query).items()}
        assert answer.pop("state") == self.state
        return answer

    async def authorize(self, browser: Browser, user: str, password: str) -> str:
        """Have the user sign in and agree; the code."""
        await browser.open(self.authorization())
        if "sign_in" in _BUTTON.findall(browser.page.text):
            await browser.press("sign_in", user=user, password=password)
        answer = await browser.press("allow", expect=303)
        return self.answer_in(answer.headers["location"])["code"]

    async def token(self, expect: int = 200, **fields: str | None) -> Any:
        """The answer of the token endpoint."""
        form = {"client_id": self.client_id, **fields}
        answer = await self.http.post("/oauth2/token", data={k: v for k, v in form.items() if v is not None})
        assert answer.status_code == expect, answer.text
        assert answer.headers["cache-control"] == "no-store"
        return answer.json()

    async def exchange(self, code: str, expect: int = 200, **changed: str | None) -> Any:
        """Tokens for a code."""
        form = {
            "grant_type": "authorization_code",
            "code": code,
            "redirect_uri": self.redirect_uri,
            "code_verifier": self.verifier,
            **changed,
        }
        return await self.token(expect, **form)

    async def refresh(self, refresh_token: str, expect: int = 200) -> Any:
        """Tokens for a refresh token."""
        return await self.token(expect, grant_type="refresh_token", refresh_token=refresh_token)

    async def sign_in(self, browser: Browser, user: str, password: str) -> Any:
        """The whole way; the tokens."""
        return await self.exchange(await self.authorize(browser, user, password))
