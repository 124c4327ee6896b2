"""What a mail says, and how it is written: plain text, and the same as simple HTML."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from email.message import EmailMessage

_HTML = """<!doctype html>
<html lang="{language}">
<head><meta charset="utf-8"><title>{subject}</title></head>
<body style="font-family: sans-serif; line-height: 1.5; max-width: 36em">
{content}
</body>
</html>
"""


@dataclass(frozen=True, slots=True)
class Section:
    """A part of a mail with a title that leads to a URL, and lines of text."""

    title: str
    url: str
    lines: Sequence[str]


@dataclass(frozen=True, slots=True)
class Mail:
    """One mail to one person.

    ``paragraphs`` are text; after them come ``sections``, ``link``, a (label, URL) pair, if there is one, and
    ``closing``.
    ``headers`` are further ones, of ASCII text (``List-Unsubscribe``).
    """

    to: str
    language: str
    subject: str
    paragraphs: Sequence[str]
    link: tuple[str, str] | None = None
    closing: Sequence[str] = ()
    sections: Sequence[Section] = ()
    headers: Mapping[str, str] = field(default_factory=dict)


def written(mail: Mail, sender: str, host: str) -> EmailMessage:
    """The mail as it is sent.

    Args:
        sender: the ``From`` header.
        host: this server, as it is named in the mail's ID.
    """
    # Only a server that sends mail needs them.
    from email.message import EmailMessage
    from email.utils import formatdate, make_msgid

    message = EmailMessage()
    message["From"] = sender
    message["To"] = mail.to
    message["Subject"] = " ".join(mail.subject.split())
    message["Date"] = formatdate()
    message["Message-ID"] = make_msgid(domain=host)
    message["Auto-Submitted"] = "auto-generated"  # spec: RFC 3834: no machine is to answer
    for name, value in mail.headers.items():
        message[name] = value
    message.set_content(_plain(mail))
    message.add_alternative(_html(mail), subtype="html")
    return message


def _plain(mail: Mail) -> str:
    link = [] if mail.link is None else [f"{mail.link[0]}:\n{mail.link[1]}"]
    sections = ["\n".join([each.title, each.url, *(f"  {line}" for line in each.lines)]) for each in mail.sections]
    return "\n\n".join([*mail.paragraphs, *sections, *link, *mail.closing]) + "\n"


def _html(mail: Mail) -> str:
    from html import escape

    parts = [f"<p>{escape(text)}</p>" for text in mail.paragraphs]
    for section in mail.sections:
        parts.append(f'<h2 style="font-size: 1.1em"><a href="{escape(section.url)}">{escape(section.title)}</a></h2>')
        parts += [f"<p>{escape(line)}</p>" for line in section.lines]
    if mail.link is not None:
        label, url = mail.link
        parts.append(f'<p><a href="{escape(url)}">{escape(label)}</a></p>')
    parts += [f"<p>{escape(text)}</p>" for text in mail.closing]
    return _HTML.format(language=mail.language, subject=escape(mail.subject), content="\n".join(parts))
