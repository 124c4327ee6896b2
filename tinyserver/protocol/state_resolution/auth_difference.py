"""The auth difference and the conflicted state subgraph, by walking the auth graph newest-first.

The *full auth chain* of a state holds the events of the state and everything that they reach along auth edges. (The
specification's words leave out the events themselves; the servers of the network count them, and agreement with these
is what keeps a room in one piece.) The auth difference is what is in the full chain of some state but not of all.

Each state is its conflicted events together with the unconflicted rest, which all states share. What the rest reaches
is in every chain, so the difference is what *some but not all* of the conflicted parts reach and the rest does not.
Only conflicted events are walked at first; the rest is asked afterwards, as far back as there are doubts left.

spec: rooms/v12#state-resolution (definitions)
"""

from heapq import heapify, heappop, heappush

from tinyserver.protocol.state_resolution.model import AuthGraph, StateSets, batches


def conflicted_events(state_sets: StateSets) -> set[int]:
    """The *conflicted state set*."""
    return {nid for values in state_sets.conflicted.values() for nid in values if nid is not None}


def auth_difference(graph: AuthGraph, state_sets: StateSets) -> set[int]:
    """The auth difference of the states, in so far as it goes beyond the conflicted state set: conflicted events belong
    to the full conflicted set anyway, and which of them belong to the difference is left open."""
    conflicted = conflicted_events(state_sets)
    found = _reached_by_some(graph, state_sets, conflicted)
    doubtful = found - conflicted
    return found - _reached_by_the_rest(graph, state_sets, doubtful)


def _reached_by_some(graph: AuthGraph, state_sets: StateSets, conflicted: set[int]) -> set[int]:
    """The events which the conflicted parts of some, but not of all, states reach, save unconflicted events and what
    these, as far as met, reach.

    Every event waiting in the heap carries a mask with one bit for each state from which it was reached. When it is
    taken out, all events that might cite it have been, so its mask is final.
    """
    masks = _masks(state_sets)
    everywhere = max((1 << len(values) for values in state_sets.conflicted.values()), default=1) - 1
    heap = [-nid for nid in masks]
    heapify(heap)
    partial = sum(mask != everywhere for mask in masks.values())
    unknown = list(masks)  # met, and their edges not yet fetched
    found: set[int] = set()
    while partial:
        nid = -heappop(heap)
        mask = masks.pop(nid)
        if not graph.has_edges(nid):
            graph.fetch_edges(unknown)
            graph.fetch_keys(other for other in unknown if other not in conflicted)
            unknown = []
        if mask != everywhere:
            partial -= 1
            if nid not in conflicted and state_sets.unconflicted(graph.key(nid)) == nid:
                mask = everywhere
            else:
                found.add(nid)
        for auth in graph.edges(nid):
            before = masks.get(auth)
            if before is None:
                masks[auth] = mask
                heappush(heap, -auth)
                unknown.append(auth)
                partial += mask != everywhere
            elif before != everywhere:
                masks[auth] = before | mask
                partial -= before | mask == everywhere
    return found


def _masks(state_sets: StateSets) -> dict[int, int]:
    masks: dict[int, int] = {}
    for values in state_sets.conflicted.values():
        for number, nid in enumerate(values):
            if nid is not None:
                masks[nid] = masks.get(nid, 0) | 1 << number
    return masks


def _reached_by_the_rest(graph: AuthGraph, state_sets: StateSets, doubtful: set[int]) -> set[int]:
    """Those of the doubtful events which unconflicted events reach.

    Reads the unconflicted events newest-first and follows them down to the oldest event that is still in doubt: in an
    ordinary fork these are the few things which happened since, however large the room is.
    """
    met: set[int] = set()
    in_doubt = sorted(doubtful, reverse=True)  # the oldest last
    if not in_doubt:
        return met
    for batch in batches(state_sets.unconflicted_newer_than(in_doubt[-1])):
        oldest = in_doubt[-1]
        level = [nid for nid in batch if nid not in met]
        while level:
            edges = graph.edges_of(level)
            level = []
            for auths in edges.values():
                for auth in auths:
                    if auth >= oldest and auth not in met:
                        met.add(auth)
                        level.append(auth)
        while in_doubt and in_doubt[-1] in met:
            in_doubt.pop()
        if not in_doubt or batch[-1] <= in_doubt[-1]:
            break
    return doubtful & met


def conflicted_subgraph(graph: AuthGraph, conflicted: set[int]) -> set[int]:
    """The *conflicted state subgraph*: all that lies on paths along auth edges between two conflicted events, these
    included.

    spec: rooms/v12#state-resolution (definitions)
    """
    if not conflicted:
        return set()
    oldest = min(conflicted)  # nothing below reaches a conflicted event
    met = set(conflicted)
    level = list(conflicted)
    while level:
        graph.fetch_edges(level)
        following = []
        for nid in level:
            for auth in graph.edges(nid):
                if auth > oldest and auth not in met:
                    met.add(auth)
                    following.append(auth)
        level = following
    between: set[int] = set()
    for nid in sorted(met):  # every event after what it cites
        if nid in conflicted or any(auth in between for auth in graph.edges(nid)):
            between.add(nid)
    return between
