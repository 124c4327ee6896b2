"""The account pages: profile, password, devices, a new identity, the end of the account. Clients link to them.

spec: client-server-api#oauth-20-account-management
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import Any
from urllib.parse import urlencode

from tinyserver.accounts.devices import Devices
from tinyserver.accounts.management import AccountManagement
from tinyserver.accounts.profiles import DISPLAYNAME, MAX_DISPLAYNAME, Profiles
from tinyserver.accounts.requester import Requester
from tinyserver.accounts.sessions import MAX_DISPLAY_NAME
from tinyserver.api.answers import FullAnswer
from tinyserver.api.calls import Call, NoBody, NoQuery
from tinyserver.api.oauth import locations
from tinyserver.api.routing import Answer, Auth, Surface, endpoint
from tinyserver.api.web import account_actions as actions
from tinyserver.api.web.account_actions import action_named
from tinyserver.api.web.account_emails import PAGE as EMAILS
from tinyserver.api.web.account_emails import EmailSettings
from tinyserver.api.web.gate import Gate, Purpose, password_form
from tinyserver.api.web.new_password import refused_password
from tinyserver.api.web.page import button, checkbox, escape, facts, field, paragraph
from tinyserver.api.web.visit import Visit
from tinyserver.encryption.identity_resets import IdentityResets
from tinyserver.oauth.browser_sessions import BrowserSession
from tinyserver.protocol.errors import NotFound

_SPEC = "client-server-api#oauth-20-account-management"
_DONE = frozenset(("done_name", "done_password", "done_renamed", "done_deleted", "done_reset"))
_PASSWORD = "password"  # a page that no client links to

Handler = Callable[[Visit, BrowserSession], Awaitable[FullAnswer]]


class AccountPages:
    """What people do with their account when their client leaves it to the server."""

    surface = Surface.CLIENT

    def __init__(
        self,
        gate: Gate,
        management: AccountManagement,
        devices: Devices,
        profiles: Profiles,
        resets: IdentityResets,
        emails: EmailSettings,
    ) -> None:
        self._gate = gate
        self._management = management
        self._devices = devices
        self._profiles = profiles
        self._resets = resets
        self._emails = emails
        self._shown: dict[str, Handler] = {
            actions.DEVICES: self._device_list,
            actions.DEVICE_VIEW: self._device_page,
            actions.DEVICE_DELETE: self._device_page,
            actions.DEACTIVATE: self._closing_page,
            actions.RESET: self._reset_page,
            _PASSWORD: self._password_page,
            EMAILS: emails.page,
        }
        self._done: dict[str, Handler] = {
            "save_name": self._save_name,
            "change_password": self._change_password,
            "rename_device": self._rename_device,
            "remove_device": self._remove_device,
            "close_account": self._close_account,
            "reset": self._reset,
            "add_email": emails.add,
            "confirm_email": emails.confirm,
            "remove_email": emails.remove,
        }

    @endpoint("GET", locations.ACCOUNT, spec=_SPEC, auth=Auth.NONE)
    @endpoint("POST", locations.ACCOUNT, spec=_SPEC, auth=Auth.NONE)
    async def account(self, call: Call[NoBody, NoQuery]) -> Answer:
        """All pages; `action` in the query says which."""
        return await self._gate.show(call, self._account)

    async def _account(self, visit: Visit) -> FullAnswer:
        entered = await self._gate.enter(visit, Purpose())
        if isinstance(entered, FullAnswer):
            return entered
        do = self._done.get(visit.action)
        if do is not None:
            return await do(visit, entered)
        wanted = visit.query.get("action", "")
        show = self._shown.get(wanted if wanted in (_PASSWORD, EMAILS) else action_named(wanted), self._overview)
        return await show(visit, entered)

    # Pages

    async def _overview(self, visit: Visit, session: BrowserSession) -> FullAnswer:
        profile = await self._profiles.get(session.user_id)
        name = profile.get(DISPLAYNAME, "")
        extra = f'optional maxlength="{MAX_DISPLAYNAME}" autocomplete="nickname"'
        content = _news(visit) + paragraph(visit.text("signed_in_as", user=session.user_id))
        content += visit.form_of(
            field("name", visit.text("display_name"), value=name if isinstance(name, str) else "", extra=extra)
            + button("save_name", visit.text("save"))
        )
        entries = (
            (actions.DEVICES, "devices"),
            (_PASSWORD, "change_password"),
            *([(EMAILS, "emails")] if self._emails.is_offered else []),
            (actions.RESET, "reset"),
            (actions.DEACTIVATE, "close_account"),
        )
        content += "<nav><ul>" + "".join(
            f'<li><a href="{_page(action)}">{escape(visit.text(text))}</a></li>' for action, text in entries
        ) + "</ul></nav>"  # fmt: skip
        content += visit.form_of(button("sign_out", visit.text("sign_out"), "second"))
        return visit.page("account_title", content)

    async def _device_list(self, visit: Visit, session: BrowserSession) -> FullAnswer:
        entries = []
        for device in await self._devices.all_of(_requester(session)):
            name = device.get("display_name") or visit.text("device_unnamed")
            seen = f"{visit.text('last_seen')}: {_moment(device.get('last_seen_ts'))}"
            target = _page(actions.DEVICE_VIEW, device_id=device["device_id"])
            entries.append(
                f'<li><a href="{target}">{escape(name)} <small>{escape(device["device_id"])}</small>'
                f"<small>{escape(seen)}</small></a></li>"
            )
        return visit.page("devices", f"{_news(visit)}<ul>{''.join(entries)}</ul>" + _back(visit))

    async def _device_page(self, visit: Visit, session: BrowserSession) -> FullAnswer:
        device_id = visit.query.get("device_id", "")
        if not device_id:
            return await self._device_list(visit, session)
        try:
            device = await self._devices.get(_requester(session), device_id)
        except NotFound:
            return visit.problem("device_unknown", status=404, more=_back(visit, actions.DEVICES))
        name = device.get("display_name", "")
        content = _news(visit) + facts(
            [
                (visit.text("device_id"), escape(device_id)),
                (visit.text("last_seen"), escape(_moment(device.get("last_seen_ts")))),
                (visit.text("address"), escape(device.get("last_seen_ip", "–"))),
            ]
        )
        removal = paragraph(visit.text("device_remove_text"))
        removal += visit.form_of(button("remove_device", visit.text("device_remove"), "bad"))
        if action_named(visit.query.get("action", "")) == actions.DEVICE_DELETE:
            content = paragraph(name or visit.text("device_unnamed")) + content + removal
        else:
            extra = f'maxlength="{MAX_DISPLAY_NAME}"'
            content += visit.form_of(
                field("name", visit.text("device_name"), value=name, extra=extra)
                + button("rename_device", visit.text("save"))
            )
            content += f"<h2>{escape(visit.text('sign_out'))}</h2>{removal}"
        return visit.page("device", content + _back(visit, actions.DEVICES))

    async def _password_page(self, visit: Visit, session: BrowserSession, error: str = "") -> FullAnswer:
        told = paragraph(visit.text(error), "error") if error else ""
        form = visit.form_of(password_form(visit, failed=bool(error)))
        return visit.page("change_password", told + form + _back(visit), status=400 if error else 200)

    async def _closing_page(self, visit: Visit, session: BrowserSession, error: str = "") -> FullAnswer:
        content = (paragraph(visit.text(error), "error") if error else "") + paragraph(session.user_id)
        content += paragraph(visit.text("close_account_text"))
        content += visit.form_of(
            _current_password(visit, failed=bool(error))
            + checkbox("erase", visit.text("close_account_erase"))
            + button("close_account", visit.text("close_account"), "bad")
        )
        return visit.page("close_account", content + _back(visit), status=403 if error else 200)

    async def _reset_page(self, visit: Visit, session: BrowserSession, error: str = "") -> FullAnswer:
        content = (paragraph(visit.text(error), "error") if error else "") + paragraph(session.user_id)
        content += paragraph(visit.text("reset_text")) + paragraph(visit.text("reset_warning"))
        content += visit.form_of(
            _current_password(visit, failed=bool(error)) + button("reset", visit.text("reset_allow"), "bad")
        )
        return visit.page("reset", content + _back(visit), status=403 if error else 200)

    # What the buttons do

    async def _save_name(self, visit: Visit, session: BrowserSession) -> FullAnswer:
        name = visit.form.get("name", "").strip()
        await self._profiles.put_field(_requester(session), session.user_id, DISPLAYNAME, {DISPLAYNAME: name})
        return visit.redirect("?done=done_name")

    async def _change_password(self, visit: Visit, session: BrowserSession) -> FullAnswer:
        refused = refused_password(visit.form)
        if refused:
            return await self._password_page(visit, session, refused)
        if not await self._gate.confirm(session, visit.form.get("current", "")):
            return await self._password_page(visit, session, "error_password")
        logout = "logout" in visit.form
        await self._management.replace_password(session.user, visit.form["password"], logout_devices=logout)
        visit.sign_in(session.user_id)
        return visit.redirect("?done=done_password")

    async def _rename_device(self, visit: Visit, session: BrowserSession) -> FullAnswer:
        device_id, name = visit.query.get("device_id", ""), visit.form.get("name", "").strip()
        await self._devices.rename(_requester(session), device_id, name)
        return visit.redirect(visit.here(done="done_renamed"))

    async def _remove_device(self, visit: Visit, session: BrowserSession) -> FullAnswer:
        await self._devices.remove_proved(_requester(session), [visit.query.get("device_id", "")])
        return visit.redirect("?" + urlencode({"action": actions.DEVICES, "done": "done_deleted"}))

    async def _close_account(self, visit: Visit, session: BrowserSession) -> FullAnswer:
        if not await self._gate.confirm(session, visit.form.get("current", "")):
            return await self._closing_page(visit, session, "error_password")
        visit.sign_out()
        await self._management.close(session.user_id, session.user, erase="erase" in visit.form)
        return visit.page("close_account", paragraph(visit.text("done_closed"), "good"))

    async def _reset(self, visit: Visit, session: BrowserSession) -> FullAnswer:
        if not await self._gate.confirm(session, visit.form.get("current", "")):
            return await self._reset_page(visit, session, "error_password")
        self._resets.allow(session.user)
        return visit.redirect("?done=done_reset")


class InvitationPages:
    """Where an invitation link leads: making an account without a client having asked for it."""

    surface = Surface.CLIENT

    def __init__(self, gate: Gate) -> None:
        self._gate = gate

    @endpoint("GET", locations.INVITATION, spec="client-server-api#user-registration", auth=Auth.NONE)
    @endpoint("POST", locations.INVITATION, spec="client-server-api#user-registration", auth=Auth.NONE)
    async def register(self, call: Call[NoBody, NoQuery]) -> Answer:
        """Make an account; `token` in the query is the registration token."""
        return await self._gate.show(call, self._register)

    async def _register(self, visit: Visit) -> FullAnswer:
        entered = await self._gate.enter(visit, Purpose(register=visit.session is None))
        if isinstance(entered, FullAnswer):
            return entered
        content = paragraph(visit.text("done_registered"), "good")
        content += paragraph(visit.text("signed_in_as", user=entered.user_id))
        return visit.page("account", content + visit.form_of(button("sign_out", visit.text("not_you"), "link")))


def _requester(session: BrowserSession) -> Requester:
    return Requester(session.user_id, session.user)


def _page(action: str, **more: str) -> str:
    return escape("?" + urlencode({"action": action, **more}))


def _back(visit: Visit, action: str = "") -> str:
    return f'<p><a href="{_page(action)}">{escape(visit.text("back"))}</a></p>'


def _news(visit: Visit) -> str:
    """What was just done, as the query says after a redirect."""
    done = visit.query.get("done", "")
    return paragraph(visit.text(done), "good") if done in _DONE else ""


def _current_password(visit: Visit, *, failed: bool) -> str:
    extra = 'autocomplete="current-password"'
    return field("current", visit.text("password"), kind="password", extra=extra, failed=failed)


def _moment(ts: Any) -> str:
    return f"{datetime.fromtimestamp(ts / 1000, UTC):%Y-%m-%d %H:%M} UTC" if isinstance(ts, int) else "–"
