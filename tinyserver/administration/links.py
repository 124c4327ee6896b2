"""What clients make of the people and rooms that somebody names: links, instead of which their IDs are wanted."""

from __future__ import annotations

import re
from collections.abc import Mapping
from html import unescape
from typing import Any
from urllib.parse import unquote

_PLACE = r"https://matrix\.to/#/"
_IN_HTML = re.compile(rf'<a href="{_PLACE}([^"?/]{{1,600}})[^"]{{0,2000}}">([^<]{{1,600}})</a>')
_IN_MARKDOWN = re.compile(rf"\[[^\[\]]{{0,600}}\]\(<?{_PLACE}([^\s)?/>]{{1,600}})[^\s)>]{{0,2000}}>?\)")
_BARE = re.compile(rf"<?{_PLACE}([^\s?/>]{{1,600}})[^\s>]{{0,2000}}>?")
_ID = re.compile(r'[@!#][^\s"“”„]+')


def with_ids(text: str, content: Mapping[str, Any]) -> str:
    """A text in which links to people and rooms have become IDs.

    Args:
        text: the plain text of a message, or a part of it.
        content: that of the message, whose HTML says whom the names in the text mean.
    """
    for link in (_IN_MARKDOWN, _BARE):
        text = link.sub(lambda found: _id(found[1]) or found[0], text)
    formatted = content.get("formatted_body")
    if not isinstance(formatted, str):
        return text
    end = len(text)
    for found in reversed(list(_IN_HTML.finditer(formatted))):
        meant, name = _id(found[1]), unescape(found[2])
        at = text.rfind(name, 0, end) if meant else -1
        if at >= 0:
            text, end = text[:at] + (meant or "") + text[at + len(name) :], at
    return text


def _id(quoted: str) -> str | None:
    unquoted = unquote(unescape(quoted))
    return unquoted if _ID.fullmatch(unquoted) else None
