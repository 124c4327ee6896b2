"""Which versions of the specification are served. spec: client-server-api#specification-versions"""

from collections.abc import Mapping

from tinyserver.api.calls import Call, NoBody, NoQuery
from tinyserver.api.routing import Answer, Auth, Surface, endpoint

# Complete, without holes: clients look for "at least v1.4" by testing whether "v1.4" is in the list.
SPEC_VERSIONS = [
    *("r0.0.1", "r0.1.0", "r0.2.0", "r0.3.0", "r0.4.0", "r0.5.0", "r0.6.0", "r0.6.1"),
    *(f"v1.{minor}" for minor in range(1, 20)),
]


# What the specification has taken since, under the flags that clients go on asking for.
TAKEN_BY_THE_SPECIFICATION = dict.fromkeys(
    (
        "org.matrix.e2e_cross_signing",
        "org.matrix.msc2285.stable",
        "org.matrix.msc3266",
        "org.matrix.msc3440.stable",
        "org.matrix.msc3715.stable",
        "org.matrix.msc3771",
        "org.matrix.msc3773",
        "org.matrix.msc3827.stable",
        "org.matrix.msc3856",
        "org.matrix.msc3856.stable",
        "org.matrix.msc3882",
        "org.matrix.msc3916.stable",
        "org.matrix.msc3952_intentional_mentions",
        "org.matrix.msc3981",
        "org.matrix.msc4151",
        "org.matrix.msc4222",
        "org.matrix.msc4380.stable",
        "uk.half-shot.msc2666.query_mutual_rooms",
        "uk.half-shot.msc2666.query_mutual_rooms.stable",
        "uk.tcpip.msc4133",
        "uk.tcpip.msc4133.stable",
    ),
    True,
)
PROPOSALS = dict.fromkeys(
    (
        "org.matrix.msc3391",
        "org.matrix.msc3874",
        "org.matrix.msc3890",
        "org.matrix.msc3912",
        "org.matrix.msc4306",
        "org.matrix.msc4354",
        "org.matrix.msc4429",
    ),
    True,
)
"""What the specification does not have, and no part of the server announces itself."""


class VersionsApi:
    """The one question that a client asks before anything else.

    :param unstable_features: more features by the names of their proposals; only what really works belongs here, since
        clients switch to a feature as soon as it is announced.
    """

    surface = Surface.CLIENT

    def __init__(self, unstable_features: Mapping[str, bool]) -> None:
        self._unstable_features = {**TAKEN_BY_THE_SPECIFICATION, **PROPOSALS, **unstable_features}

    @endpoint("GET", "/_matrix/client/versions", spec="client-server-api#get_matrixclientversions", auth=Auth.NONE)
    async def get_versions(self, call: Call[NoBody, NoQuery]) -> Answer:
        """The versions and unstable features: the same for everybody, so no token is looked at."""
        return {"versions": SPEC_VERSIONS, "unstable_features": self._unstable_features}
