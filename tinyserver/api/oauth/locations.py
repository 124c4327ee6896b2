"""Where the endpoints and pages of OAuth are, below the server's public URL."""

from urllib.parse import quote

AUTHORIZATION = "/oauth2/authorize"
TOKEN = "/oauth2/token"
REVOCATION = "/oauth2/revoke"
REGISTRATION = "/oauth2/clients"
DEVICE_AUTHORIZATION = "/oauth2/device"
SSO = "/oauth2/sso"
LINK = "/link"
ACCOUNT = "/account"
INVITATION = "/register"
EMAIL = "/account/email"
UNSUBSCRIBE = "/account/unsubscribe"


def invitation_link(public_url: str, token: str) -> str:
    """The page on which an account is made with a registration token."""
    return f"{public_url.rstrip('/')}{INVITATION}?token={quote(token, safe='')}"


def reset_url_at(public_url: str) -> str:
    """The page on which a user agrees to new cross-signing keys."""
    return f"{public_url}{ACCOUNT}?action=org.matrix.cross_signing_reset"
