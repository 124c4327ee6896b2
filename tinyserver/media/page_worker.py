"""Reads what web pages say of themselves, in a process of its own: pages come from strangers.

Run as `python -m tinyserver.media.page_worker`. Each line of standard input is a JSON object with a page in base64 as
`content` and its `charset` (or null), each is answered by a line with what the page says:
`{"og": {...}, "oembed": url}`, or `{"error": "..."}`.
"""

from __future__ import annotations

import base64
import json
import os
import re
import resource
import sys
import warnings
from typing import Any

from bs4 import BeautifulSoup
from bs4.element import Tag
from bs4.filter import SoupStrainer

MAX_MEMORY = 512 * 1024 * 1024
MAX_PROPERTIES = 40
MAX_TEXT = 1000
_KEPT = re.compile(r"og:[a-z_]+(:[a-z_]+){0,2}")
_TWITTER = {"twitter:title": "og:title", "twitter:description": "og:description", "twitter:image": "og:image"}
_WANTED = SoupStrainer(["title", "meta", "link", "h1", "p"])


def main() -> None:
    """Answer orders until standard input ends."""
    os.nice(10)
    resource.setrlimit(resource.RLIMIT_AS, (MAX_MEMORY, MAX_MEMORY))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    warnings.simplefilter("ignore")
    for line in sys.stdin:
        order = json.loads(line)
        try:
            answer = _read(base64.b64decode(order["content"]), order["charset"])
        except Exception as error:  # whatever a parser makes of a hostile page
            answer = {"error": type(error).__name__}
        sys.stdout.write(json.dumps(answer) + "\n")
        sys.stdout.flush()


def _read(content: bytes, charset: str | None) -> dict[str, Any]:
    page = BeautifulSoup(content, "html.parser", parse_only=_WANTED, from_encoding=charset)
    found: dict[str, str] = {}
    for meta in page.find_all("meta"):
        name = str(meta.get("property") or meta.get("name") or "").strip().lower()
        text = _clean(str(meta.get("content") or ""))
        if text and len(found) < MAX_PROPERTIES and _KEPT.fullmatch(name):
            found.setdefault(name, text)
        elif text and name in _TWITTER:
            found.setdefault(_TWITTER[name], text)
        elif text and name == "description":
            found.setdefault("description", text)
    description = found.pop("description", None) or _first(page, "p")
    if description:
        found.setdefault("og:description", description)
    title = _first(page, "title") or _first(page, "h1")
    if title:
        found.setdefault("og:title", title)
    link = page.find("link", attrs={"type": "application/json+oembed"})
    oembed = str(link.get("href") or "") if isinstance(link, Tag) else ""
    return {"og": found, "oembed": oembed or None}


def _first(page: BeautifulSoup, name: str) -> str:
    return next((text for element in page.find_all(name, limit=20) if (text := _clean(element.get_text()))), "")


def _clean(text: str) -> str:
    return " ".join(text.split())[:MAX_TEXT]


if __name__ == "__main__":
    main()
