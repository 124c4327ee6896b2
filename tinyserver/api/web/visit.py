"""Somebody looks at a page: who, in which language, with which form filled in.

Every browser gets a cookie, and every form carries a token made from it, so that no other site can send a form in the
name of its user. Signing in changes the cookie.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlencode

from tinyserver.api.answers import FullAnswer
from tinyserver.api.calls import Call
from tinyserver.api.forms import read_form
from tinyserver.api.web.page import escape, frame, page_headers, paragraph
from tinyserver.api.web.texts import TEXTS, preferred_language
from tinyserver.oauth.browser_sessions import BrowserSession, BrowserSessions
from tinyserver.protocol.errors import Forbidden, LimitExceeded, MatrixError, UserLocked

_COOKIE = "tinyserver"
_MAX_COOKIE = 100
_STEERING = ("show", "prompt", "done", "email")  # what a query may say about which page is shown


class FormExpired(Forbidden):
    """A form without the token of its browser: from another site, or from before the server's last start."""


class Visit:
    """One request of a browser.

    ``form`` holds the last value of each field that was filled in; ``session`` who is signed in, if anybody.
    """

    def __init__(
        self, call: Call[Any, Any], sessions: BrowserSessions, secret: bytes, server_name: str, *, secure: bool
    ) -> None:
        self.call = call
        self.form: dict[str, str] = {}
        self.language = preferred_language(call.headers.get("accept-language", ""))
        self.server_name = server_name
        self._sessions = sessions
        self._secret = secret
        self._secure = secure
        self._cookie = self._sent_cookie()
        self._set_cookie = not self._cookie
        self.session: BrowserSession | None = sessions.find(self._cookie) if self._cookie else None
        if not self._cookie:
            self._cookie = secrets.token_urlsafe(32)

    async def read_form(self) -> None:
        """Take the form that was sent, if one was.

        Raises:
            FormExpired: it does not come from a page of this browser.
            InvalidParam, TooLarge, ClientGone.
        """
        if self.call.method != "POST":
            return
        form = {name: values[-1] for name, values in (await read_form(self.call)).items()}
        if self.call.headers.get("sec-fetch-site", "same-origin") not in ("same-origin", "none"):
            raise FormExpired
        if not hmac.compare_digest(form.pop("token_of_form", "").encode("utf-8"), self._token().encode("ascii")):
            raise FormExpired
        self.form = form

    @property
    def action(self) -> str:
        """Which button was pressed; empty where none was."""
        return self.form.get("do", "")

    @property
    def query(self) -> dict[str, str]:
        """The query of the URL, the last value of each parameter."""
        return {name: values[-1] for name, values in self.call.query_parameters.items()}

    def text(self, key: str, **values: object) -> str:
        """A sentence in the language of the visitor, not escaped."""
        return TEXTS[self.language][key].format(**values)

    def here(self, **changed: str) -> str:
        """This page by a relative URL, with steering parameters (what to show) replaced by these."""
        kept = [
            (name, value)
            for name, values in self.call.query_parameters.items()
            if name not in _STEERING and name not in changed
            for value in values
        ]
        return "?" + urlencode([*kept, *changed.items()])

    def sign_in(self, user_id: str) -> None:
        """From now on the browser is signed in."""
        self._sessions.close(self._cookie)
        self._cookie = self._sessions.open(user_id)
        self._set_cookie = True
        self.session = self._sessions.find(self._cookie)

    def sign_out(self) -> None:
        """Forget who it was."""
        self._sessions.close(self._cookie)
        self._cookie = secrets.token_urlsafe(32)
        self._set_cookie = True
        self.session = None

    def form_of(self, content: str, method: str = "post") -> str:
        """A form around its fields and buttons (HTML); it is sent to the URL of this page."""
        if method == "get":
            return f'<form method="get">{content}</form>'
        return (
            f'<form method="post"><input type="hidden" name="token_of_form" value="{escape(self._token())}">'
            f"{content}</form>"
        )

    def page(self, title: str, content: str, *, status: int = 200, form_targets: str = "") -> FullAnswer:
        """A page with a title (the key of a text), and HTML below it."""
        body = frame(self.language, self.server_name, self.text(title), content)
        return FullAnswer(status, body, {**page_headers(form_targets), **self._cookie_header()})

    def redirect(self, location: str) -> FullAnswer:
        """Send the browser elsewhere (to a checked URL, or a relative one), with GET."""
        headers = {"Location": location, "Cache-Control": "no-store", "Referrer-Policy": "no-referrer"}
        return FullAnswer(303, b"", {**headers, **self._cookie_header()})

    def problem(self, key: str, *, status: int = 400, more: str = "", **values: object) -> FullAnswer:
        """A page that says what went wrong (the key of a text), with HTML below it."""
        return self.page("error_title", paragraph(self.text(key, **values), "error") + more, status=status)

    def problem_of(self, error: MatrixError) -> FullAnswer:
        """A page for an error that no page expects."""
        if isinstance(error, FormExpired):
            back = f'<p><a href="{escape(self.here())}">{escape(self.text("continue"))}</a></p>'
            return self.problem("error_form", status=403, more=back)
        if isinstance(error, LimitExceeded):
            return self.problem("error_too_often", status=429)
        if isinstance(error, UserLocked):
            return self.problem("error_locked", status=403)
        content = paragraph(error.message, "error")
        return self.page("error_title", content, status=error.status)

    def _token(self) -> str:
        return hmac.new(self._secret, self._cookie.encode("utf-8"), hashlib.sha256).hexdigest()

    @property
    def _cookie_name(self) -> str:
        # Such a name no other host, no other path and no page without TLS can set.
        return f"__Host-{_COOKIE}" if self._secure else _COOKIE

    def _sent_cookie(self) -> str:
        for part in self.call.headers.get("cookie", "").replace(",", ";").split(";"):
            name, _, value = part.strip().partition("=")
            if name == self._cookie_name and 0 < len(value) <= _MAX_COOKIE:
                return value
        return ""

    def _cookie_header(self) -> Mapping[str, str]:
        if not self._set_cookie:
            return {}
        secure = "; Secure" if self._secure else ""
        return {"Set-Cookie": f"{self._cookie_name}={self._cookie}; Path=/; HttpOnly; SameSite=Lax{secure}"}
