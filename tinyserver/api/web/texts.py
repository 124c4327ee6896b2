"""Every sentence of the web pages, in every language that they speak.

A new language is a new table with the same keys; the tests compare them.
"""

from __future__ import annotations

_ENGLISH = {
    "account": "Your account",
    "account_title": "Account",
    "address": "Its address",
    "allow": "Allow",
    "allow_sign_in": "Sign the device in",
    "application": "Application",
    "back": "Back",
    "back_to_client": "Back to {client}",
    "cancel": "Cancel",
    "change_password": "Change password",
    "client_wants": "{client} wants to use your account.",
    "close_account": "Close account",
    "close_account_erase": "Also hide my messages from people who join later",
    "close_account_text": (
        "Your account is closed for good: you are signed out everywhere, leave all rooms, and nobody can have this "
        "name again."
    ),
    "code": "Code",
    "code_compare": "Go on only if your other device shows exactly this code, and if it was you who began.",
    "code_text": "Type the code that your other device shows.",
    "consent_title": "Give access to your account?",
    "continue": "Continue",
    "continue_as": "Continue as {user}",
    "continue_to": "Continue to {place}",
    "create_account": "Create account",
    "current_password": "Current password",
    "device": "Device",
    "device_id": "Device ID",
    "device_name": "Name of the device",
    "device_remove": "Sign this device out",
    "device_remove_text": "The device is signed out, and encrypted messages that only it can read are lost.",
    "device_unknown": "You have no such device. It may be signed out already.",
    "device_unnamed": "Device without a name",
    "devices": "Devices",
    "display_name": "Your name as others see it",
    "done_closed": "Your account is closed.",
    "done_deleted": "The device is signed out.",
    "done_link_denied": "The device was not signed in. You can close this page.",
    "done_email": "Your mail address is confirmed. You can go back to your app.",
    "done_linked": "Your device is being signed in. You can close this page.",
    "done_name": "Your name is changed.",
    "done_password": "Your password is changed.",
    "done_registered": "Your account is ready. Open your Matrix app and sign in there.",
    "done_renamed": "The device has its new name.",
    "done_reset": "You can go back to your app now. It may replace your identity within the next ten minutes.",
    "done_unsubscribed": "No more mails about missed messages are sent to you.",
    "email_add": "An account on {server} is to get this mail address. Confirm it only if you began this yourself.",
    "email_address": "Mail address",
    "email_confirm": "Confirm the mail address",
    "email_password": (
        "Whoever began this can choose a new password for your account on {server} as soon as you allow it. Go on only "
        "if it was you, just now."
    ),
    "email_password_confirm": "Allow a new password",
    "email_password_title": "Allow a new password?",
    "email_register": (
        "A new account on {server} is to get this mail address. Confirm it only if you began this yourself."
    ),
    "email_title": "Confirm your mail address",
    "emails": "Mail addresses",
    "emails_add": "Add a mail address",
    "emails_none": "Your account has no mail address. With one you can get a new password if you forget yours.",
    "error_client": "The app is not known here, or no longer. Go back to it and sign in again.",
    "error_code": "There is no such code, or it has expired. Look again, or begin anew on your device.",
    "error_email": "This is not a mail address such as name@example.org.",
    "error_email_denied": "Mail addresses of this domain cannot be used here.",
    "error_email_link": (
        "This link is not known, or no longer. Use the one of the newest mail, or ask for another mail."
    ),
    "error_email_taken": "This mail address belongs to another account.",
    "error_form": "This page was open for too long. Please try it once more.",
    "error_locked": "This account is locked. Ask the administrator of the server.",
    "error_mail": "The mail could not be sent. Try again later.",
    "error_password": "The password is wrong.",
    "error_redirect": "The app wants you to be sent to an address that it did not register. Nothing was sent there.",
    "error_redirect_url": "You would be sent to an address that is not safe. Nothing was sent there.",
    "error_repeat": "The two passwords are not the same.",
    "error_request": "The app asked for something that this server does not do: {problem}.",
    "error_taken": "This user name is taken. Choose another one.",
    "error_title": "This did not work",
    "error_token": "The registration token is not valid, or no longer. Ask the administrator of the server for one.",
    "error_too_often": "Too many attempts. Wait a little and try again.",
    "error_unsubscribe": "There are no such mails any more.",
    "error_username": "A user name has letters a to z, digits, and . _ = - / only.",
    "error_weak": "Choose a password of at least 8 characters.",
    "error_wrong": "The user name or the password is wrong.",
    "full_access": "It will be able to read and write everything in your account, as if it were you.",
    "have_account": "I have an account already",
    "last_seen": "Last used",
    "link_title": "Sign a device in",
    "mail_sent": "A mail is on its way. Open the link in it to go on.",
    "minutes_ago": "{minutes} minutes ago",
    "new_password": "New password",
    "no_account": "Create an account",
    "not_you": "Not you? Sign out",
    "password": "Password",
    "password_hint": "At least 8 characters.",
    "password_logout": "Sign out all devices",
    "policy": "Privacy policy",
    "recover_link": "Forgot your password?",
    "recover_text": "You can choose a new password if your account has a mail address. A link is sent there.",
    "recover_title": "Choose a new password",
    "register_closed": "New accounts cannot be made here. Ask the administrator of the server for one.",
    "register_mail_text": "New accounts here need a mail address. A link to go on with is sent there.",
    "register_title": "Create an account",
    "register_token": "Registration token",
    "register_token_hint": "You get it from the administrator of the server.",
    "remove": "Remove",
    "repeat_password": "Repeat the password",
    "requested": "Asked for",
    "reset": "Reset your identity",
    "reset_allow": "Allow the reset",
    "reset_text": (
        "Do this only if you have lost all other devices and your recovery key. Your app makes you a new identity; "
        "people you know must verify you again, and you may lose encrypted messages."
    ),
    "reset_warning": (
        "If you did not begin this in your app just now, somebody else may be trying to get into your account."
    ),
    "returns_to": "You return to",
    "save": "Save",
    "send_mail": "Send the mail",
    "sign_in": "Sign in",
    "sign_in_for": "to continue to {client}",
    "sign_in_title": "Sign in",
    "sign_out": "Sign out",
    "signed_in_as": "You are signed in as {user}.",
    "sso_text": (
        "An app at this place wants to be signed in to your account. Go on only if you know it and have just begun to "
        "sign in there."
    ),
    "terms": "Terms of service",
    "this_app": "an app on this device",
    "unsubscribe": "No more mails",
    "unsubscribe_text": "Mails about missed messages are sent to this address.",
    "unsubscribe_title": "Mails about missed messages",
    "user_name": "User name",
    "user_name_hint": "Your address will be @name:{server}",
    "user_name_or_email": "User name or mail address",
    "website": "Website",
}

_GERMAN = {
    "account": "Dein Konto",
    "account_title": "Konto",
    "address": "Seine Adresse",
    "allow": "Erlauben",
    "allow_sign_in": "Gerät anmelden",
    "application": "Anwendung",
    "back": "Zurück",
    "back_to_client": "Zurück zu {client}",
    "cancel": "Abbrechen",
    "change_password": "Passwort ändern",
    "client_wants": "{client} möchte dein Konto benutzen.",
    "close_account": "Konto schließen",
    "close_account_erase": "Meine Nachrichten auch vor allen verbergen, die später dazukommen",
    "close_account_text": (
        "Dein Konto wird endgültig geschlossen: Du wirst überall abgemeldet, verlässt alle Räume, und niemand kann "
        "diesen Namen noch einmal bekommen."
    ),
    "code": "Code",
    "code_compare": "Mach nur weiter, wenn dein anderes Gerät genau diesen Code zeigt und du selbst angefangen hast.",
    "code_text": "Gib den Code ein, den dein anderes Gerät zeigt.",
    "consent_title": "Zugriff auf dein Konto erlauben?",
    "continue": "Weiter",
    "continue_as": "Weiter als {user}",
    "continue_to": "Weiter zu {place}",
    "create_account": "Konto anlegen",
    "current_password": "Bisheriges Passwort",
    "device": "Gerät",
    "device_id": "Geräte-ID",
    "device_name": "Name des Geräts",
    "device_remove": "Dieses Gerät abmelden",
    "device_remove_text": (
        "Das Gerät wird abgemeldet; verschlüsselte Nachrichten, die nur dieses Gerät lesen kann, gehen verloren."
    ),
    "device_unknown": "Du hast kein solches Gerät. Vielleicht ist es schon abgemeldet.",
    "device_unnamed": "Gerät ohne Namen",
    "devices": "Geräte",
    "display_name": "Dein Name, wie andere ihn sehen",
    "done_closed": "Dein Konto ist geschlossen.",
    "done_deleted": "Das Gerät ist abgemeldet.",
    "done_link_denied": "Das Gerät wurde nicht angemeldet. Du kannst diese Seite schließen.",
    "done_email": "Deine Mailadresse ist bestätigt. Du kannst zurück in deine App gehen.",
    "done_linked": "Dein Gerät wird angemeldet. Du kannst diese Seite schließen.",
    "done_name": "Dein Name ist geändert.",
    "done_password": "Dein Passwort ist geändert.",
    "done_registered": "Dein Konto ist fertig. Öffne deine Matrix-App und melde dich dort an.",
    "done_renamed": "Das Gerät hat seinen neuen Namen.",
    "done_reset": (
        "Du kannst jetzt zu deiner App zurückgehen. Sie darf deine Identität in den nächsten zehn Minuten ersetzen."
    ),
    "done_unsubscribed": "Du bekommst keine Mails über verpasste Nachrichten mehr.",
    "email_add": (
        "Ein Konto auf {server} soll diese Mailadresse bekommen. Bestätige sie nur, wenn du das angefangen hast."
    ),
    "email_address": "Mailadresse",
    "email_confirm": "Mailadresse bestätigen",
    "email_password": (
        "Wer das angefangen hat, kann ein neues Passwort für dein Konto auf {server} wählen, sobald du es erlaubst. "
        "Mach nur weiter, wenn du das selbst warst, gerade eben."
    ),
    "email_password_confirm": "Neues Passwort erlauben",
    "email_password_title": "Neues Passwort erlauben?",
    "email_register": (
        "Ein neues Konto auf {server} soll diese Mailadresse bekommen. Bestätige sie nur, wenn du das angefangen hast."
    ),
    "email_title": "Mailadresse bestätigen",
    "emails": "Mailadressen",
    "emails_add": "Mailadresse hinzufügen",
    "emails_none": (
        "Dein Konto hat keine Mailadresse. Mit einer bekommst du ein neues Passwort, wenn du deines vergisst."
    ),
    "error_client": "Die App ist hier nicht (mehr) bekannt. Geh zu ihr zurück und melde dich noch einmal an.",
    "error_code": (
        "Diesen Code gibt es nicht, oder er ist abgelaufen. Sieh noch einmal nach, oder fang auf dem Gerät neu an."
    ),
    "error_email": "Das ist keine Mailadresse wie name@example.org.",
    "error_email_denied": "Mailadressen dieser Domain können hier nicht verwendet werden.",
    "error_email_link": (
        "Dieser Link ist nicht bekannt, oder nicht mehr. Nimm den aus der neuesten Mail, oder lass dir eine neue "
        "schicken."
    ),
    "error_email_taken": "Diese Mailadresse gehört zu einem anderen Konto.",
    "error_form": "Diese Seite war zu lange offen. Bitte versuch es noch einmal.",
    "error_locked": "Dieses Konto ist gesperrt. Frag die Verwaltung des Servers.",
    "error_mail": "Die Mail konnte nicht verschickt werden. Versuch es später noch einmal.",
    "error_password": "Das Passwort ist falsch.",
    "error_redirect": (
        "Die App will dich zu einer Adresse schicken, die sie nicht angemeldet hat. Es wurde nichts dorthin geschickt."
    ),
    "error_redirect_url": (
        "Du würdest zu einer Adresse geschickt, die nicht sicher ist. Es wurde nichts dorthin geschickt."
    ),
    "error_repeat": "Die beiden Passwörter sind nicht gleich.",
    "error_request": "Die App verlangt etwas, das dieser Server nicht kann: {problem}.",
    "error_taken": "Diesen Benutzernamen gibt es schon. Wähle einen anderen.",
    "error_title": "Das hat nicht geklappt",
    "error_token": "Das Registrierungs-Token gilt nicht (mehr). Frag die Verwaltung des Servers nach einem.",
    "error_too_often": "Zu viele Versuche. Warte ein wenig und versuch es dann noch einmal.",
    "error_unsubscribe": "Solche Mails gibt es nicht mehr.",
    "error_username": "Ein Benutzername besteht aus Buchstaben von a bis z, Ziffern und . _ = - /",
    "error_weak": "Wähle ein Passwort mit mindestens 8 Zeichen.",
    "error_wrong": "Der Benutzername oder das Passwort ist falsch.",
    "full_access": "Sie kann dann alles in deinem Konto lesen und schreiben, als wäre sie du.",
    "have_account": "Ich habe schon ein Konto",
    "last_seen": "Zuletzt benutzt",
    "link_title": "Ein Gerät anmelden",
    "mail_sent": "Eine Mail ist unterwegs. Öffne den Link darin, um weiterzumachen.",
    "minutes_ago": "vor {minutes} Minuten",
    "new_password": "Neues Passwort",
    "no_account": "Ein Konto anlegen",
    "not_you": "Bist du das nicht? Abmelden",
    "password": "Passwort",
    "password_hint": "Mindestens 8 Zeichen.",
    "password_logout": "Alle Geräte abmelden",
    "policy": "Datenschutzerklärung",
    "recover_link": "Passwort vergessen?",
    "recover_text": "Du kannst ein neues Passwort wählen, wenn dein Konto eine Mailadresse hat. Dorthin geht ein Link.",
    "recover_title": "Neues Passwort wählen",
    "register_closed": "Hier können keine neuen Konten angelegt werden. Frag die Verwaltung des Servers nach einem.",
    "register_mail_text": "Neue Konten brauchen hier eine Mailadresse. Dorthin geht ein Link zum Weitermachen.",
    "register_title": "Ein Konto anlegen",
    "register_token": "Registrierungs-Token",
    "register_token_hint": "Du bekommst es von der Verwaltung des Servers.",
    "remove": "Entfernen",
    "repeat_password": "Passwort wiederholen",
    "requested": "Angefragt",
    "reset": "Identität zurücksetzen",
    "reset_allow": "Zurücksetzen erlauben",
    "reset_text": (
        "Tu das nur, wenn du alle anderen Geräte und deinen Wiederherstellungsschlüssel verloren hast. Deine App "
        "macht dir eine neue Identität; deine Bekannten müssen dich noch einmal bestätigen, und du kannst "
        "verschlüsselte Nachrichten verlieren."
    ),
    "reset_warning": (
        "Wenn du das nicht gerade eben in deiner App angefangen hast, versucht vielleicht jemand anderes, in dein "
        "Konto zu kommen."
    ),
    "returns_to": "Du kommst zurück zu",
    "save": "Speichern",
    "send_mail": "Mail schicken",
    "sign_in": "Anmelden",
    "sign_in_for": "um weiterzugehen zu {client}",
    "sign_in_title": "Anmelden",
    "sign_out": "Abmelden",
    "signed_in_as": "Du bist angemeldet als {user}.",
    "sso_text": (
        "Eine App an diesem Ort will in deinem Konto angemeldet werden. Mach nur weiter, wenn du sie kennst und dich "
        "gerade eben dort anmelden wolltest."
    ),
    "terms": "Nutzungsbedingungen",
    "this_app": "einer App auf diesem Gerät",
    "unsubscribe": "Keine Mails mehr",
    "unsubscribe_text": "An diese Adresse gehen Mails über verpasste Nachrichten.",
    "unsubscribe_title": "Mails über verpasste Nachrichten",
    "user_name": "Benutzername",
    "user_name_hint": "Deine Adresse wird @name:{server}",
    "user_name_or_email": "Benutzername oder Mailadresse",
    "website": "Webseite",
}

TEXTS = {"en": _ENGLISH, "de": _GERMAN}
"""The tables by language; the first one is for whoever speaks none of them."""

_MAX_LANGUAGES = 20


def preferred_language(accept_language: str) -> str:
    """The language of the pages that somebody with this `Accept-Language` header likes best."""
    wanted: list[tuple[float, str]] = []
    for part in accept_language.split(",")[:_MAX_LANGUAGES]:
        tag, _, quality = part.partition(";")
        language = tag.strip().lower().partition("-")[0]
        if language in TEXTS:
            wanted.append((_weight(quality), language))
    weight, language = max(wanted, key=lambda entry: entry[0], default=(0.0, ""))
    return language if weight > 0 else next(iter(TEXTS))


def _weight(quality: str) -> float:
    try:
        weight = float(quality.strip().removeprefix("q=") or 1)
    except ValueError:
        return 0.0
    return weight if 0 <= weight <= 1 else 0.0
