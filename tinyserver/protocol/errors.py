"""Every error code of the Matrix specification as one typed hierarchy.

A handler or a service raises, for example, ``Forbidden("You are banned from this room")``; the HTTP layer answers with
``error.status``, ``error.headers`` and ``error.body()``. A class is named like its code, without the ``M_`` and in
CamelCase. Each has the HTTP status and the message which usually go with it, and both can be overridden.

spec: client-server-api#standard-error-response, identity-service-api#standard-error-response
"""

from collections.abc import Mapping
from typing import Any, ClassVar, TypeVar

AnyError = TypeVar("AnyError", bound=Exception)


def bare(error: AnyError) -> AnyError:
    """An error that is kept as a value, without the frames that it came through: they hold all that was at hand there,
    and often the error itself, so that nothing of it would be freed for long."""
    error.__traceback__ = error.__cause__ = error.__context__ = None
    return error


class MatrixError(Exception):
    """The base of all errors which a client or another server is told about; its own code is ``M_UNKNOWN``.

    :param message: a sentence for the user: what went wrong and, where one can, what to do about it.
    :param status: the HTTP status, where it differs from the usual one of the class.
    :param extra: further keys of the error object.
    :param headers: HTTP headers of the answer.
    """

    errcode: str = "M_UNKNOWN"
    default_status: ClassVar[int] = 500
    default_message: ClassVar[str] = "Something went wrong on the server."

    def __init__(
        self,
        message: str | None = None,
        *,
        status: int | None = None,
        extra: Mapping[str, Any] | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        self.message: str = self.default_message if message is None else message
        self.status: int = self.default_status if status is None else status
        self.extra: dict[str, Any] = dict(extra) if extra else {}
        self.headers: dict[str, str] = dict(headers) if headers else {}
        super().__init__(self.message)

    def body(self) -> dict[str, Any]:
        """The standard error response: ``errcode``, ``error`` and the further keys of this error."""
        return {"errcode": self.errcode, "error": self.message, **self.extra}


# --- Common error codes: any endpoint can answer with them


class Unknown(MatrixError):
    """An error for which there is no code of its own."""

    errcode = "M_UNKNOWN"


class BadJson(MatrixError):
    """Valid JSON, but not what was asked for: a missing key, a value of the wrong type."""

    errcode = "M_BAD_JSON"
    default_status = 400
    default_message = "The request is valid JSON, but a key is missing or has a value of the wrong type."


class NotJson(MatrixError):
    """The body is not JSON at all."""

    errcode = "M_NOT_JSON"
    default_status = 400
    default_message = "The request is not valid JSON."


class Forbidden(MatrixError):
    """Access denied: joining a room without permission, a failed login."""

    errcode = "M_FORBIDDEN"
    default_status = 403
    default_message = "You are not allowed to do this."


class NotFound(MatrixError):
    """There is nothing with this name, or the requester may not know of it."""

    errcode = "M_NOT_FOUND"
    default_status = 404
    default_message = "Nothing was found here."


class LimitExceeded(MatrixError):
    """Too many requests.

    :param retry_after_ms: milliseconds to wait before the next try; told in the body and, in whole seconds, in the
        ``Retry-After`` header.

    spec: client-server-api#rate-limiting
    """

    errcode = "M_LIMIT_EXCEEDED"
    default_status = 429
    default_message = "Too many requests. Wait a while, then try again."

    def __init__(self, retry_after_ms: int | None = None, message: str | None = None) -> None:
        super().__init__(message)
        self.retry_after_ms = retry_after_ms
        if retry_after_ms is not None:
            self.extra["retry_after_ms"] = retry_after_ms
            self.headers["Retry-After"] = str(-(-retry_after_ms // 1000))


class MissingToken(MatrixError):
    """The request needs an access token and has none."""

    errcode = "M_MISSING_TOKEN"
    default_status = 401
    default_message = "An access token is needed. Log in and send it in the Authorization header."


class UnknownToken(MatrixError):
    """The access or refresh token is not known, or no longer valid.

    :param soft_logout: the client may keep its data and log in again with the same device.

    spec: client-server-api#soft-logout
    """

    errcode = "M_UNKNOWN_TOKEN"
    default_status = 401
    default_message = "The access token is not known or no longer valid. Log in again."

    def __init__(self, message: str | None = None, *, soft_logout: bool = False, status: int | None = None) -> None:
        super().__init__(message, status=status, extra={"soft_logout": soft_logout})
        self.soft_logout = soft_logout


class UnknownDevice(MatrixError):
    """The device that an application service asserts does not belong to the user."""

    errcode = "M_UNKNOWN_DEVICE"
    default_status = 400
    default_message = "This device does not belong to this user."


class Unrecognized(MatrixError):
    """No such endpoint (404), or not with this method (``status=405``)."""

    errcode = "M_UNRECOGNIZED"
    default_status = 404
    default_message = "The server does not know this request."


class ResourceLimitExceeded(MatrixError):
    """The server has reached a limit, disk space for example.

    :param admin_contact: where the user can reach the administrator, a URI.
    """

    errcode = "M_RESOURCE_LIMIT_EXCEEDED"
    default_status = 403
    default_message = "The server has reached one of its limits. Contact its administrator."

    def __init__(self, admin_contact: str, message: str | None = None, *, status: int | None = None) -> None:
        super().__init__(message, status=status, extra={"admin_contact": admin_contact})


class UserLimitExceeded(MatrixError):
    """The account has reached a limit, its storage quota for example.

    :param info_uri: a page that explains the limit.
    :param can_upgrade: whether the limit can be raised for this user.
    """

    errcode = "M_USER_LIMIT_EXCEEDED"
    default_status = 403
    default_message = "Your account has reached one of its limits."

    def __init__(
        self, info_uri: str, message: str | None = None, *, can_upgrade: bool = False, status: int | None = None
    ) -> None:
        super().__init__(message, status=status, extra={"info_uri": info_uri, "can_upgrade": can_upgrade})


class UserLocked(MatrixError):
    """The account is locked: the session stays, but cannot be used.

    spec: client-server-api#account-locking
    """

    errcode = "M_USER_LOCKED"
    default_status = 401
    default_message = "This account is locked. Contact the administrator of your server."

    def __init__(self, message: str | None = None) -> None:
        super().__init__(message, extra={"soft_logout": True})


class UserSuspended(MatrixError):
    """The account is suspended: it can read and leave rooms, but hardly anything else.

    spec: client-server-api#account-suspension
    """

    errcode = "M_USER_SUSPENDED"
    default_status = 403
    default_message = "This account is suspended. Contact the administrator of your server."


# --- Requests and their parameters


class MissingParam(MatrixError):
    """A required parameter is missing."""

    errcode = "M_MISSING_PARAM"
    default_status = 400
    default_message = "A required parameter is missing."


class InvalidParam(MatrixError):
    """A parameter has a wrong value."""

    errcode = "M_INVALID_PARAM"
    default_status = 400
    default_message = "A parameter has a value that is not valid."


class TooLarge(MatrixError):
    """The request, event or file is larger than allowed."""

    errcode = "M_TOO_LARGE"
    default_status = 413
    default_message = "The request is too large."


class UnknownPos(MatrixError):
    """The position of a sliding sync is not known (any more): the client starts again without one."""

    errcode = "M_UNKNOWN_POS"
    default_status = 400
    default_message = "The position is not known. Start a new sync without it."


class ConcurrentWrite(MatrixError):
    """Somebody else has changed the resource in the meantime."""

    errcode = "M_CONCURRENT_WRITE"
    default_status = 412
    default_message = "The resource has been changed in the meantime. Read it again, then retry."


# --- Accounts and logging in


class Unauthorized(MatrixError):
    """The request was not correctly authorised, usually a failed login."""

    errcode = "M_UNAUTHORIZED"
    default_status = 401
    default_message = "The request is not authorised."


class UserDeactivated(MatrixError):
    """The account has been deactivated."""

    errcode = "M_USER_DEACTIVATED"
    default_status = 403
    default_message = "This account has been deactivated."


class UserInUse(MatrixError):
    """The user ID is taken."""

    errcode = "M_USER_IN_USE"
    default_status = 400
    default_message = "This user name is taken. Choose another one."


class InvalidUsername(MatrixError):
    """The user name cannot become a user ID."""

    errcode = "M_INVALID_USERNAME"
    default_status = 400
    default_message = "A user name can only contain a-z, 0-9 and . _ = - / +"


class WeakPassword(MatrixError):
    """The password is too easy to guess."""

    errcode = "M_WEAK_PASSWORD"
    default_status = 400
    default_message = "This password is too weak. Choose a longer one."


class Exclusive(MatrixError):
    """The name belongs to an application service, or lies outside the names of the one that asks."""

    errcode = "M_EXCLUSIVE"
    default_status = 400
    default_message = "This name is reserved by an application service."


class AppserviceLoginUnsupported(MatrixError):
    """The server offers no login to application services: it uses the OAuth 2.0 API."""

    errcode = "M_APPSERVICE_LOGIN_UNSUPPORTED"
    default_status = 400
    default_message = "Application services cannot log in to this server. Send inhibit_login: true."


class GuestAccessForbidden(MatrixError):
    """The room or resource does not admit guests."""

    errcode = "M_GUEST_ACCESS_FORBIDDEN"
    default_status = 403
    default_message = "Guests are not allowed here. Create an account first."


class CaptchaNeeded(MatrixError):
    """A captcha is needed."""

    errcode = "M_CAPTCHA_NEEDED"
    default_status = 401
    default_message = "Solve the captcha to go on."


class CaptchaInvalid(MatrixError):
    """The captcha was not solved."""

    errcode = "M_CAPTCHA_INVALID"
    default_status = 401
    default_message = "The captcha was not solved correctly."


class ProfileTooLarge(MatrixError):
    """The profile would pass the size limit of all its fields together.

    spec: client-server-api#profiles
    """

    errcode = "M_PROFILE_TOO_LARGE"
    default_status = 400
    default_message = "The profile would become too large. Remove a field first."


class KeyTooLarge(MatrixError):
    """The name of a profile field is too long."""

    errcode = "M_KEY_TOO_LARGE"
    default_status = 400
    default_message = "The name of a profile field cannot be longer than 255 bytes."


# --- E-mail addresses and telephone numbers


class ThreepidInUse(MatrixError):
    """Somebody else uses this address already."""

    errcode = "M_THREEPID_IN_USE"
    default_status = 400
    default_message = "This address is in use already."


class ThreepidNotFound(MatrixError):
    """No account has this address."""

    errcode = "M_THREEPID_NOT_FOUND"
    default_status = 400
    default_message = "No account has this address."


class ThreepidDenied(MatrixError):
    """The server does not permit this address."""

    errcode = "M_THREEPID_DENIED"
    default_status = 403
    default_message = "This server does not allow this address."


class ThreepidAuthFailed(MatrixError):
    """Nobody has proved that the address is theirs."""

    errcode = "M_THREEPID_AUTH_FAILED"
    default_status = 403
    default_message = "The address has not been validated. Follow the link in the message first."


class ThreepidMediumNotSupported(MatrixError):
    """The server cannot work with addresses of this kind."""

    errcode = "M_THREEPID_MEDIUM_NOT_SUPPORTED"
    default_status = 400
    default_message = "This server does not support addresses of this kind."


class ServerNotTrusted(MatrixError):
    """The request names a third-party server that this server does not trust."""

    errcode = "M_SERVER_NOT_TRUSTED"
    default_status = 400
    default_message = "This server does not trust the identity server."


class InvalidEmail(MatrixError):
    """Not an e-mail address."""

    errcode = "M_INVALID_EMAIL"
    default_status = 400
    default_message = "This is not a valid e-mail address."


class InvalidAddress(MatrixError):
    """Not an address of the given kind."""

    errcode = "M_INVALID_ADDRESS"
    default_status = 400
    default_message = "This is not a valid address."


class EmailSendError(MatrixError):
    """The validation mail could not be sent."""

    errcode = "M_EMAIL_SEND_ERROR"
    default_status = 500
    default_message = "The e-mail could not be sent. Try again later."


class SendError(MatrixError):
    """The validation message could not be sent."""

    errcode = "M_SEND_ERROR"
    default_status = 500
    default_message = "The message could not be sent. Try again later."


class NoValidSession(MatrixError):
    """No validation session has this ID and secret."""

    errcode = "M_NO_VALID_SESSION"
    default_status = 404
    default_message = "There is no such validation session. Request a new message."


class SessionExpired(MatrixError):
    """The validation session is too old."""

    errcode = "M_SESSION_EXPIRED"
    default_status = 400
    default_message = "The validation session has expired. Request a new message."


class SessionNotValidated(MatrixError):
    """The validation session is not finished."""

    errcode = "M_SESSION_NOT_VALIDATED"
    default_status = 400
    default_message = "The address has not been validated yet. Follow the link in the message first."


class TokenIncorrect(MatrixError):
    """The validation code is wrong."""

    errcode = "M_TOKEN_INCORRECT"
    default_status = 400
    default_message = "The code is not correct."


class TermsNotSigned(MatrixError):
    """The terms of the service have not been accepted."""

    errcode = "M_TERMS_NOT_SIGNED"
    default_status = 403
    default_message = "Accept the terms of service first."


class MissingParams(MatrixError):
    """An identity server's form of ``M_MISSING_PARAM``."""

    errcode = "M_MISSING_PARAMS"
    default_status = 400
    default_message = "A required parameter is missing."


# --- Rooms


class BadState(MatrixError):
    """The change does not fit the current state: unbanning somebody who is not banned."""

    errcode = "M_BAD_STATE"
    default_status = 403
    default_message = "This change is not possible in the current state of the room."


class BadAlias(MatrixError):
    """An alias in ``m.room.canonical_alias`` does not lead to the room."""

    errcode = "M_BAD_ALIAS"
    default_status = 400
    default_message = "The alias does not belong to this room. Add it to the room first."


class RoomInUse(MatrixError):
    """The alias of the new room is taken."""

    errcode = "M_ROOM_IN_USE"
    default_status = 400
    default_message = "This room alias is taken. Choose another one."


class InvalidRoomState(MatrixError):
    """The initial state of the new room is not valid."""

    errcode = "M_INVALID_ROOM_STATE"
    default_status = 400
    default_message = "The initial state of the room is not valid."


class UnsupportedRoomVersion(MatrixError):
    """A new room was asked for in a version that the server does not know."""

    errcode = "M_UNSUPPORTED_ROOM_VERSION"
    default_status = 400
    default_message = "This server does not support this room version."


class IncompatibleRoomVersion(MatrixError):
    """The room has a version that the joining server or client does not know.

    :param room_version: the version of the room.
    """

    errcode = "M_INCOMPATIBLE_ROOM_VERSION"
    default_status = 400
    default_message = "Your server does not support the version of this room."

    def __init__(self, room_version: str, message: str | None = None) -> None:
        super().__init__(message, extra={"room_version": room_version})


class UnableToAuthoriseJoin(MatrixError):
    """The server cannot tell whether the user may join: it is not in the rooms which the join rule names.

    spec: server-server-api#restricted-rooms
    """

    errcode = "M_UNABLE_TO_AUTHORISE_JOIN"
    default_status = 400
    default_message = "This server cannot check whether the user may join. Try another server of the room."


class UnableToGrantJoin(MatrixError):
    """The user may join, but no user of this server may invite and so authorise it.

    spec: server-server-api#restricted-rooms
    """

    errcode = "M_UNABLE_TO_GRANT_JOIN"
    default_status = 400
    default_message = "No user of this server may let others into the room. Try another server of the room."


class UnableDueToPartialState(MatrixError):
    """The server has just joined and does not know all members yet."""

    errcode = "M_UNABLE_DUE_TO_PARTIAL_STATE"
    default_status = 404
    default_message = "This server does not know the whole room yet. Try again later."


class CannotLeaveServerNoticeRoom(MatrixError):
    """The room of server notices cannot be left."""

    errcode = "M_CANNOT_LEAVE_SERVER_NOTICE_ROOM"
    default_status = 403
    default_message = "You cannot leave the room in which the server sends you its notices."


class InviteBlocked(MatrixError):
    """The invited user does not want invitations from this one.

    spec: client-server-api#invite-permission
    """

    errcode = "M_INVITE_BLOCKED"
    default_status = 403
    default_message = "This user does not accept invitations from you."


class DuplicateAnnotation(MatrixError):
    """The user has reacted to the event with this key before."""

    errcode = "M_DUPLICATE_ANNOTATION"
    default_status = 400
    default_message = "You have reacted with this already."


class NotInThread(MatrixError):
    """The event that caused a thread subscription is not in the thread."""

    errcode = "M_NOT_IN_THREAD"
    default_status = 400
    default_message = "The event is not in this thread."


class ConflictingUnsubscription(MatrixError):
    """The user has unsubscribed from the thread since the event that caused an automatic subscription."""

    errcode = "M_CONFLICTING_UNSUBSCRIPTION"
    default_status = 409
    default_message = "You have unsubscribed from this thread since."


class MaxDelayExceeded(MatrixError):
    """A delayed event was asked for too far in the future."""

    errcode = "M_MAX_DELAY_EXCEEDED"
    default_status = 400
    default_message = "The delay is longer than this server allows."


# --- Encryption


class InvalidSignature(MatrixError):
    """A signature of an uploaded key is wrong."""

    errcode = "M_INVALID_SIGNATURE"
    default_status = 400
    default_message = "The signature is not valid."


class WrongRoomKeysVersion(MatrixError):
    """The key backup that the client writes to is not the current one.

    :param current_version: the version of the current backup, where there is one.
    """

    errcode = "M_WRONG_ROOM_KEYS_VERSION"
    default_status = 403
    default_message = "This is not the current key backup."

    def __init__(self, message: str | None = None, *, current_version: str | None = None) -> None:
        super().__init__(message, extra={} if current_version is None else {"current_version": current_version})


# --- Media


class NotYetUploaded(MatrixError):
    """The media ID exists, but its content has not been uploaded yet."""

    errcode = "M_NOT_YET_UPLOADED"
    default_status = 504
    default_message = "This file has not been uploaded yet. Try again later."


class CannotOverwriteMedia(MatrixError):
    """The media ID has its content already."""

    errcode = "M_CANNOT_OVERWRITE_MEDIA"
    default_status = 409
    default_message = "This file has been uploaded already and cannot be replaced."


# --- Application services: what a ping found


class UrlNotSet(MatrixError):
    """The application service has no URL."""

    errcode = "M_URL_NOT_SET"
    default_status = 400
    default_message = "The application service's registration has no url."


class BadStatus(MatrixError):
    """The application service answered with an error.

    :param answer_status: the HTTP status of its answer.
    :param answer_body: the text of its answer.
    """

    errcode = "M_BAD_STATUS"
    default_status = 502
    default_message = "The application service answered with an error."

    def __init__(self, answer_status: int, answer_body: str = "", message: str | None = None) -> None:
        super().__init__(message, extra={"status": answer_status, "body": answer_body})


class ConnectionFailed(MatrixError):
    """The application service could not be reached."""

    errcode = "M_CONNECTION_FAILED"
    default_status = 502
    default_message = "The application service could not be reached."


class ConnectionTimeout(MatrixError):
    """The application service did not answer in time."""

    errcode = "M_CONNECTION_TIMEOUT"
    default_status = 504
    default_message = "The application service did not answer in time."


ERROR_CLASSES: dict[str, type[MatrixError]] = {cls.errcode: cls for cls in MatrixError.__subclasses__()}
"""Every class of this module by its error code."""
