"""Requests to application services.

spec: application-service-api#authorisation, application-service-api#legacy-routes
"""

from __future__ import annotations

from urllib.parse import quote, urlencode

from tinyserver.appservices.services import Service
from tinyserver.outgoing.errors import HttpError, Unreachable
from tinyserver.outgoing.http import Answer, HttpClient
from tinyserver.outgoing.targets import target_of_url

MAX_ANSWER = 1024 * 1024
_V1 = "/_matrix/app/v1"


class ServiceClient:
    """Asks services.

    Args:
        http: may go wherever an administrator lets services listen, also within the own network; it must be used for
            nothing else.
    """

    def __init__(self, http: HttpClient) -> None:
        self._http = http

    async def ask(
        self,
        service: Service,
        method: str,
        path: str,
        content: bytes | None = None,
        *,
        query: list[tuple[str, str]] | None = None,
        old_path: str | None = None,
        timeout: float,
    ) -> Answer:
        """Make a request.

        Args:
            path: below the current version of the API, percent-encoded.
            content: JSON.
            old_path: where services of older drafts expect the same; asked where the current path gives an error.

        Returns:
            The answer, whose status says success.

        Raises:
            HttpError: the service answers with an error.
            Unreachable, TimedOut, AnswerTooLarge, AnswerMalformed.
        """
        answer = await self._request(service, method, _V1 + path, content, query or [], timeout)
        if not _is_success(answer) and old_path is not None:
            # Services of that age look for the token in the query.
            old_query = [*(query or []), ("access_token", service.registration.hs_token)]
            old = await self._request(service, method, old_path, content, old_query, timeout)
            if _is_success(old):
                return old
        if not _is_success(answer):
            raise HttpError(answer.status, None, answer.body[:500].decode("utf-8", "replace"))
        return answer

    async def send_transaction(self, service: Service, txn_id: str, body: bytes, timeout: float) -> None:
        """Send a transaction. Raises as `ask` does."""
        path = f"/transactions/{quote(txn_id, safe='')}"
        await self.ask(service, "PUT", path, body, old_path=path, timeout=timeout)

    async def _request(
        self,
        service: Service,
        method: str,
        path: str,
        content: bytes | None,
        query: list[tuple[str, str]],
        timeout: float,
    ) -> Answer:
        url = service.registration.url
        if url is None:
            raise Unreachable("it has no URL")
        target, base = target_of_url(url)
        headers = {"Authorization": f"Bearer {service.registration.hs_token}"}
        if content is not None:
            headers["Content-Type"] = "application/json"
        return await self._http.request(
            method,
            target,
            base.rstrip("/") + path + (f"?{urlencode(query)}" if query else ""),
            headers=headers,
            content=content,
            timeout=timeout,
            max_bytes=MAX_ANSWER,
        )


def _is_success(answer: Answer) -> bool:
    return 200 <= answer.status < 300
