"""How the web pages look: one frame, a few kinds of elements. No scripts, nothing from elsewhere."""

from __future__ import annotations

import hashlib
from base64 import b64encode
from collections.abc import Iterable

_STYLE = """
:root { color-scheme: light dark; --text: #1b1d22; --soft: #5b6270; --back: #f2f4f7; --card: #fff; --line: #c4cad4;
  --accent: #0b6b53; --on-accent: #fff; --bad: #b3261e; --bad-back: #fdeceb; --good-back: #e5f5ee }
@media (prefers-color-scheme: dark) { :root { --text: #eceef2; --soft: #a7aebb; --back: #14161a; --card: #1f2228;
  --line: #474d59; --accent: #5fd3ae; --on-accent: #062019; --bad: #ffb4ab; --bad-back: #3b1d1b;
  --good-back: #16332a } }
* { box-sizing: border-box }
body { margin: 0; background: var(--back); color: var(--text); font: 1rem/1.5 system-ui, sans-serif;
  min-height: 100vh; display: flex; align-items: safe center; justify-content: center }
main { width: 100%; max-width: 27rem; background: var(--card); padding: 1.75rem 1.5rem; overflow-wrap: anywhere }
@media (min-width: 30rem) {
  main { border-radius: 1rem; border: 1px solid var(--line); margin: 2rem 1rem; padding: 2rem } }
@media (max-width: 29.99rem) { body { background: var(--card); align-items: flex-start } }
.server { margin: 0; color: var(--soft); font-size: .9rem }
h1 { margin: 0 0 .75rem; font-size: 1.6rem; line-height: 1.25 }
h2 { margin: 2rem 0 .5rem; font-size: 1.1rem }
p { margin: .75rem 0 }
a { color: var(--accent) }
form { margin: 1rem 0 0 }
label { display: block; margin-top: 1rem; font-weight: 600 }
label.check { display: flex; gap: .6rem; align-items: flex-start; font-weight: 400 }
label.check input { width: 1.3rem; height: 1.3rem; flex: none; accent-color: var(--accent) }
input { width: 100%; min-height: 2.9rem; padding: .5rem .75rem; margin-top: .25rem; font: inherit; color: inherit;
  background: var(--card); border: 1px solid var(--soft); border-radius: .5rem }
.hint { color: var(--soft); font-size: .9rem; margin: .25rem 0 0 }
form + .hint { margin-top: 1.25rem } .hint + form { margin-top: 0 }
button { width: 100%; min-height: 2.9rem; margin-top: 1.25rem; padding: .5rem 1rem; font: inherit; font-weight: 600;
  color: var(--on-accent); background: var(--accent); border: 1px solid var(--accent); border-radius: .5rem;
  cursor: pointer }
button.second { color: var(--text); background: transparent; border-color: var(--soft); margin-top: .75rem }
button.bad { background: transparent; color: var(--bad); border-color: var(--bad) }
button.link { width: auto; min-height: 0; margin: 0; padding: .25rem 0; background: none; border: 0;
  color: var(--accent); font-weight: 400; text-decoration: underline }
:focus-visible { outline: 3px solid var(--accent); outline-offset: 2px }
.error, .good { padding: .75rem 1rem; border-radius: .5rem }
.error { background: var(--bad-back); color: var(--bad) }
.good { background: var(--good-back) }
dl { margin: 1rem 0; display: grid; grid-template-columns: auto 1fr; gap: .35rem 1rem }
dt { color: var(--soft) }
dd { margin: 0 }
.code { font: 600 1.75rem/1.5 ui-monospace, monospace; letter-spacing: .1em; text-align: center }
ul { list-style: none; margin: .5rem 0; padding: 0 }
li { border-top: 1px solid var(--line) }
li a { display: block; padding: .75rem 0 }
li small { display: block; color: var(--soft) }
"""
_STYLE_HASH = b64encode(hashlib.sha256(_STYLE.encode("utf-8")).digest()).decode("ascii")

_FRAME = """<!doctype html>
<html lang="{language}">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="robots" content="noindex">
<title>{title} – {server}</title>
<style>{style}</style>
</head>
<body>
<main>
<p class="server">{server}</p>
<h1>{title}</h1>
{content}
</main>
</body>
</html>
"""


def escape(text: str) -> str:
    """Text from outside as the content of an element, or as a value of an attribute in quotation marks."""
    # The library's html.escape would bring its table of all named characters with it.
    text = text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return text.replace('"', "&quot;").replace("'", "&#39;")


def frame(language: str, server: str, title: str, content: str) -> bytes:
    """A whole page. `content` is HTML, the others text."""
    page = _FRAME.format(language=language, title=escape(title), server=escape(server), style=_STYLE, content=content)
    return page.encode("utf-8")


def page_headers(form_targets: str = "") -> dict[str, str]:
    """The headers of a page: nothing from elsewhere, no framing, not kept, and forms that end here or at these
    sources of a content security policy."""
    policy = (
        f"default-src 'none'; style-src 'sha256-{_STYLE_HASH}'; form-action 'self' {form_targets}".rstrip()
        + "; frame-ancestors 'none'; base-uri 'none'"
    )
    return {
        "Content-Type": "text/html; charset=utf-8",
        "Cache-Control": "no-store",
        "Content-Security-Policy": policy,
        "Referrer-Policy": "same-origin",
        "X-Content-Type-Options": "nosniff",
        "X-Frame-Options": "DENY",
    }


def paragraph(text: str, kind: str = "") -> str:
    """A paragraph; of the kind `error` it is an alert, of the kind `good` good news."""
    if not kind:
        return f"<p>{escape(text)}</p>"
    role = {"error": ' role="alert" id="error"', "good": ' role="status"'}.get(kind, "")
    return f'<p class="{kind}"{role}>{escape(text)}</p>'


def field(
    name: str, label: str, *, kind: str = "text", value: str = "", hint: str = "", extra: str = "", failed: bool = False
) -> str:
    """A labelled field that must be filled in, unless `extra` (further attributes, as HTML) says `optional`.

    With `failed` it belongs to the alert of the page.
    """
    required = " required"
    if extra.startswith("optional"):
        required, extra = "", extra.removeprefix("optional").strip()
    described = " ".join(each for each in (f"{name}-hint" if hint else "", "error" if failed else "") if each)
    attributes = f' aria-describedby="{described}"' if described else ""
    told = f'<p class="hint" id="{name}-hint">{escape(hint)}</p>' if hint else ""
    filled = f' value="{escape(value)}"' if value else ""
    return (
        f'<label for="{name}">{escape(label)}</label>'
        f'<input id="{name}" name="{name}" type="{kind}"{filled}{required}{attributes} {extra}>{told}'
    )


def checkbox(name: str, label: str) -> str:
    """A box to tick."""
    return f'<label class="check"><input type="checkbox" name="{name}" value="1">{escape(label)}</label>'


def button(action: str, label: str, kind: str = "") -> str:
    """A button that sends its form with this action; kinds are `second`, `bad` and `link`."""
    of_kind = f' class="{kind}"' if kind else ""
    return f'<button name="do" value="{action}"{of_kind}>{escape(label)}</button>'


def link(target: str, label: str) -> str:
    """A link to a URL that is known to be http(s), or relative."""
    return f'<a href="{escape(target)}" rel="noreferrer noopener">{escape(label)}</a>'


def facts(entries: Iterable[tuple[str, str]]) -> str:
    """A list of names (text) and values (HTML)."""
    rows = "".join(f"<dt>{escape(name)}</dt><dd>{value}</dd>" for name, value in entries)
    return f"<dl>{rows}</dl>"
