"""Where the endpoints and pages of OAuth are, below the server's public URL."""

AUTHORIZATION = "/oauth2/authorize"
TOKEN = "/oauth2/token"
REVOCATION = "/oauth2/revoke"
REGISTRATION = "/oauth2/clients"
DEVICE_AUTHORIZATION = "/oauth2/device"
SSO = "/oauth2/sso"
LINK = "/link"
ACCOUNT = "/account"
INVITATION = "/register"


def reset_url_at(public_url: str) -> str:
    """The page on which a user agrees to new cross-signing keys."""
    return f"{public_url}{ACCOUNT}?action=org.matrix.cross_signing_reset"
