"""Finding people, and what one has in common with them.

spec: client-server-api#user-directory, client-server-api#mutual-rooms
"""

from __future__ import annotations

import msgspec

from tinyserver.api.calls import Call, NoBody
from tinyserver.api.rate_limits import Limit
from tinyserver.api.routing import Answer, Auth, Surface, endpoint
from tinyserver.directory.users import FoundUser, UserDirectory


class UserSearchBody(msgspec.Struct):
    """The body of `POST /user_directory/search`."""

    search_term: str
    limit: int | None = None


class MutualRoomsQuery(msgspec.Struct):
    """With whom, and which page; `batch_token` is the older name of `from`."""

    user_id: str
    from_: str | None = msgspec.field(name="from", default=None)
    batch_token: str | None = None


class UsersApi:
    """Finding users.

    :param directory: finds them.
    """

    surface = Surface.CLIENT

    def __init__(self, directory: UserDirectory) -> None:
        self._directory = directory

    @endpoint(
        "POST",
        "/_matrix/client/v3/user_directory/search",
        spec="client-server-api#post_matrixclientv3user_directorysearch",
        auth=Auth.USER,
        body=UserSearchBody,
        limit=Limit.SEARCH,
    )
    async def search(self, call: Call[UserSearchBody, object]) -> Answer:
        """The users who fit best."""
        found = await self._directory.search(call.requester, call.body.search_term, call.body.limit)
        return {"results": [_user(user) for user in found.users], "limited": found.limited}

    @endpoint(
        "GET",
        "/_matrix/client/v1/mutual_rooms",
        spec="client-server-api#get_matrixclientv1mutual_rooms",
        auth=Auth.USER,
        query=MutualRoomsQuery,
        limit=Limit.SEARCH,
    )
    async def mutual_rooms(self, call: Call[NoBody, MutualRoomsQuery]) -> Answer:
        """A page of the rooms in common; the token also under its older name."""
        query = call.query
        page = await self._directory.mutual_rooms(call.requester, query.user_id, query.from_ or query.batch_token)
        answer = {"joined": page.room_ids, "count": page.count}
        return answer if page.next is None else {**answer, "next_batch": page.next, "next_batch_token": page.next}


def _user(user: FoundUser) -> dict[str, str]:
    known = {"user_id": user.user_id, "display_name": user.display_name, "avatar_url": user.avatar_url}
    return {key: value for key, value in known.items() if value is not None}
