"""mxc:// URIs, file names and content types as they may be stored and served.

spec: client-server-api#matrix-content-mxc-uris, client-server-api#serving-inline-content
"""

from __future__ import annotations

import re
import unicodedata
from urllib.parse import quote

from tinyserver.protocol.errors import NotFound
from tinyserver.protocol.identifiers import is_valid_server_name

DEFAULT_TYPE = "application/octet-stream"
MAX_NAME = 255
"""Characters of a file name or a content type."""
_MEDIA_ID = re.compile(r"[A-Za-z0-9_-]{1,255}")
_TYPE = re.compile(r"[A-Za-z0-9!#$&^_.+-]+/[A-Za-z0-9!#$&^_.+-]+(\s*;[\x20-\x7e]*)?")
_INLINE = {"text/css", "text/plain", "text/csv", "application/json", "application/ld+json"}
_INLINE |= {f"image/{kind}" for kind in ("jpeg", "gif", "png", "apng", "webp", "avif")}
_INLINE |= {f"video/{kind}" for kind in ("mp4", "webm", "ogg", "quicktime")}
_INLINE |= {f"audio/{kind}" for kind in ("mp4", "webm", "aac", "mpeg", "ogg", "wave", "wav", "x-wav", "x-pn-wav")}
_INLINE |= {"audio/flac", "audio/x-flac"}
# Control characters, overrides of the direction of writing, halves of characters, ends of lines and paragraphs.
_INVISIBLE = {"Cc", "Cf", "Cs", "Zl", "Zp"}
_JOINERS = "\u200c\u200d"  # of letters in some scripts, and of emoji


def check_uri(server_name: str, media_id: str) -> None:
    """Raise NotFound for what can be no mxc:// URI."""
    if not is_valid_server_name(server_name) or not _MEDIA_ID.fullmatch(media_id):
        raise NotFound("There is no such file")


def clean_type(content_type: str | None) -> str:
    """A Content-Type header as it can be stored: itself, or the type of anything where it is none."""
    text = (content_type or "").strip()
    return text if len(text) <= MAX_NAME and _TYPE.fullmatch(text) else DEFAULT_TYPE


def clean_name(file_name: str | None) -> str | None:
    """A file name without what could mislead: control characters and ways into other directories."""
    if file_name is None:
        return None
    name = re.split(r"[/\\]", file_name)[-1]
    name = "".join(each for each in name if each in _JOINERS or unicodedata.category(each) not in _INVISIBLE)
    return name.strip()[:MAX_NAME] or None


def disposition(content_type: str, file_name: str | None) -> str:
    """The Content-Disposition header for a file of a type."""
    # Browsers take what stands behind a comma for another type.
    is_harmless = "," not in content_type and content_type.partition(";")[0].strip().lower() in _INLINE
    kind = "inline" if is_harmless else "attachment"
    if file_name is None:
        return kind
    if file_name.isascii() and not re.search(r'["\\%]', file_name):
        return f'{kind}; filename="{file_name}"'
    return f"{kind}; filename*=utf-8''{quote(file_name.encode('utf-8', 'replace'), safe='')}"
