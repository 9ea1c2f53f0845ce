"""Which waiting images the engine runs next. A pure function: no clock, no locks, no tensors.

Work-conserving: whatever waits is taken at once, up to the largest batch. Fair over adapter sets: the set that was
served longest ago goes first, so a set with one image never waits for the whole backlog of a busy one.
Deficit round robin by cost and by key can replace `choose` without touching its callers.
"""

from collections.abc import Hashable, Mapping, Sequence
from typing import TypeVar

K = TypeVar("K", bound=Hashable)


def choose(waiting: Sequence[K], last_served: Mapping[K, int], max_images: int) -> list[int]:
    """Positions of the images to run now.

    waiting:     the adapter set of every waiting image, in order of arrival
    last_served: when each set was last served, as a rising count; sets not in it go first
    returns:     at most `max_images` positions: the first set's images in order of arrival, then the next set's, ...
    """
    by_set: dict[K, list[int]] = {}
    for position, key in enumerate(waiting):
        by_set.setdefault(key, []).append(position)
    turns = sorted(by_set, key=lambda key: (last_served.get(key, -1), by_set[key][0]))
    return [position for key in turns for position in by_set[key]][:max_images]
