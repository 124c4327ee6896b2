"""Every sentence of the mails, in every language that they speak.

A new language is a new table with the same keys; the tests compare them.
"""

from __future__ import annotations

_ENGLISH = {
    "add": "Somebody wants to add this mail address to an account on {server}. If it was you, confirm it:",
    "add_link": "Confirm the mail address",
    "add_subject": "Confirm your mail address for {server}",
    "ignore": "If it was not you, there is nothing to do: without you nothing happens. Never pass the link on.",
    "lasts": "The link is good for one day; only the one of the newest mail.",
    "missed": "There are {count} new messages for {user}:",
    "missed_earlier": "{count} before these",
    "missed_invite": "{sender} invites you to this room.",
    "missed_message": "a message",
    "missed_more": "And in {count} more rooms.",
    "missed_subject": "{room}: {count} new messages ({server})",
    "nobody": (
        "Somebody wants to choose a new password for an account on {server} with this mail address. There is no such "
        "account. If it was you, try the address that you gave to your account."
    ),
    "nobody_subject": "No account on {server}",
    "password": (
        "Somebody wants to choose a new password for {user}. If it was you, and only if you began it yourself just "
        "now, confirm it:"
    ),
    "password_link": "Allow a new password",
    "password_subject": "A new password for {user}",
    "recover": "Somebody wants to choose a new password for {user}. If it was you, choose it here:",
    "recover_link": "Choose a new password",
    "register": "Somebody wants to make an account on {server} with this mail address. If it was you, confirm it:",
    "register_link": "Confirm the mail address",
    "register_subject": "Confirm your mail address for {server}",
    "taken": (
        "Somebody wants to use this mail address for an account on {server}. It belongs to {user} already. If that is "
        "you and you do not know your password any more, your app can help you to a new one."
    ),
    "taken_subject": "You have an account on {server} already",
    "unsubscribe": "No more of these mails",
}

_GERMAN = {
    "add": (
        "Jemand möchte diese Mailadresse zu einem Konto auf {server} hinzufügen. Wenn du das warst, bestätige sie:"
    ),
    "add_link": "Mailadresse bestätigen",
    "add_subject": "Bestätige deine Mailadresse für {server}",
    "ignore": "Wenn du das nicht warst, ist nichts zu tun: Ohne dich geschieht nichts. Gib den Link nie weiter.",
    "lasts": "Der Link gilt einen Tag lang, und nur der aus der neuesten Mail.",
    "missed": "Für {user} gibt es {count} neue Nachrichten:",
    "missed_earlier": "{count} davor",
    "missed_invite": "{sender} lädt dich in diesen Raum ein.",
    "missed_message": "eine Nachricht",
    "missed_more": "Und in {count} weiteren Räumen.",
    "missed_subject": "{room}: {count} neue Nachrichten ({server})",
    "nobody": (
        "Jemand möchte für ein Konto auf {server} mit dieser Mailadresse ein neues Passwort wählen. Es gibt kein "
        "solches Konto. Wenn du das warst, versuch es mit der Adresse, die du deinem Konto gegeben hast."
    ),
    "nobody_subject": "Kein Konto auf {server}",
    "password": (
        "Jemand möchte ein neues Passwort für {user} wählen. Wenn du das warst, und nur wenn du selbst gerade eben "
        "damit angefangen hast, bestätige es:"
    ),
    "password_link": "Neues Passwort erlauben",
    "password_subject": "Ein neues Passwort für {user}",
    "recover": "Jemand möchte ein neues Passwort für {user} wählen. Wenn du das warst, wähle es hier:",
    "recover_link": "Neues Passwort wählen",
    "register": (
        "Jemand möchte mit dieser Mailadresse ein Konto auf {server} anlegen. Wenn du das warst, bestätige sie:"
    ),
    "register_link": "Mailadresse bestätigen",
    "register_subject": "Bestätige deine Mailadresse für {server}",
    "taken": (
        "Jemand möchte diese Mailadresse für ein Konto auf {server} verwenden. Sie gehört schon zu {user}. Wenn du das "
        "bist und dein Passwort nicht mehr weißt, hilft dir deine App zu einem neuen."
    ),
    "taken_subject": "Du hast schon ein Konto auf {server}",
    "unsubscribe": "Keine solchen Mails mehr",
}

MAIL_TEXTS = {"en": _ENGLISH, "de": _GERMAN}
"""The tables by language."""


def mail_text(language: str, key: str, **values: object) -> str:
    """A sentence in a language, in English where that is not spoken."""
    return MAIL_TEXTS.get(language, _ENGLISH)[key].format(**values)
