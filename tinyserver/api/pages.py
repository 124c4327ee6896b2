"""HTML pages, for the few places where the specification wants them."""

from __future__ import annotations

from tinyserver.api.calls import Receive, Scope, Send

# Nothing from elsewhere, nothing sent elsewhere, and no other site may frame the page.
_HEADERS = [
    (b"content-type", b"text/html; charset=utf-8"),
    (b"cache-control", b"no-store"),
    (b"referrer-policy", b"no-referrer"),
    (b"x-content-type-options", b"nosniff"),
    (
        b"content-security-policy",
        b"default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; connect-src 'self'; "
        b"form-action 'self'; frame-ancestors 'none'; base-uri 'none'",
    ),
]

_FRAME = """<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title>
<style>
body {{ font: 1rem/1.5 system-ui, sans-serif; max-width: 24rem; margin: 4rem auto; padding: 0 1rem }}
:root {{ color-scheme: light dark }}
label, input, button {{ display: block; width: 100%; box-sizing: border-box; margin: .25rem 0; font: inherit }}
input, button {{ padding: .5rem }}
[role=alert] {{ color: #c22 }}
</style>
<h1>{title}</h1>
{content}
</html>
"""


def as_html(text: str) -> str:
    """Text from outside as the content of an element."""
    # The library's html.escape would bring its table of all named characters with it.
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


class Page:
    """An ASGI response with one HTML page.

    :param title: the heading, as HTML.
    :param content: what is below it, as HTML; text from outside goes through :func:`as_html`.
    """

    def __init__(self, title: str, content: str, status: int = 200) -> None:
        self._status = status
        self._body = _FRAME.format(title=title, content=content).encode("utf-8")

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the page."""
        headers = [*_HEADERS, (b"content-length", str(len(self._body)).encode("ascii"))]
        await send({"type": "http.response.start", "status": self._status, "headers": headers})
        await send({"type": "http.response.body", "body": self._body})
