"""From the `filter` parameter of a request to a filter that is ready for use.

spec: client-server-api#filtering
"""

from __future__ import annotations

import orjson

from tinyserver.protocol.errors import BadJson, NotFound, NotJson
from tinyserver.protocol.filters import parse_filter
from tinyserver.storage import filters
from tinyserver.storage.database import Database
from tinyserver.sync.requests import NO_FILTER, FilterSet

MAX_REMEMBERED = 200
MAX_INLINE = 16_384
"""Characters of a filter that stands in the URL."""


class FilterSets:
    """Filters made ready. Equal filters of different users are one object, so that their work can be shared.

    Args:
        db: where uploaded filters are stored.
    """

    def __init__(self, db: Database) -> None:
        self._db = db
        self._by_text: dict[bytes, FilterSet] = {}
        self._by_number: dict[tuple[int, int], FilterSet] = {}

    def get(self, user: int, parameter: str | None) -> FilterSet:
        """The filter that a request names.

        Args:
            user: nid of the user, whose uploaded filters can be named.
            parameter: the ID of an uploaded filter, a filter in JSON, or None for no filter.

        Raises:
            NotJson, BadJson: it is no filter.
            NotFound: the user has no filter with this ID.
        """
        if not parameter:
            return NO_FILTER
        if parameter.startswith("{"):
            if len(parameter) > MAX_INLINE:
                raise BadJson("The filter is too long to stand in the URL. Upload it and use its ID.")
            return self._parsed(parameter.encode("utf-8", "surrogatepass"))
        number = int(parameter) if parameter.isascii() and parameter.isdigit() and len(parameter) < 18 else -1
        known = self._by_number.get((user, number))
        if known is None:
            content = self._db.glance(lambda tx: filters.get(tx, user, number))
            if content is None:
                raise NotFound("There is no filter with this ID.")
            known = self._parsed(content)
            self._by_number[(user, number)] = known
            _limit(self._by_number)
        return known

    def _parsed(self, text: bytes) -> FilterSet:
        known = self._by_text.get(text)
        if known is None:
            try:
                value = orjson.loads(text)
            except (orjson.JSONDecodeError, RecursionError) as error:
                raise NotJson("The filter is not valid JSON.") from error
            known = self._by_text[text] = FilterSet(parse_filter(value))
            _limit(self._by_text)
        return known


def _limit(remembered: dict[object, FilterSet] | dict[bytes, FilterSet] | dict[tuple[int, int], FilterSet]) -> None:
    if len(remembered) > MAX_REMEMBERED:
        del remembered[next(iter(remembered))]  # type: ignore[arg-type]
