"""What the posts of a simulated world are worth to its people, quick for many posts of one viewer."""

from typing import Final

import numpy as np
import numpy.typing as npt

from infra.world.parameters import HOUR_MS
from infra.world.people import PARTS, TOPIC_COUNT
from infra.world.posts import mixes
from infra.world.rates import Bools, Floats, Shown, action_probabilities, affinity
from infra.world.truth import Ints, Truth
from schemas.ids import key_of

Keys = npt.NDArray[np.uint64]
NOBODY: Final = -1


class Worth:
    """The truth of a world by the keys that the job knows its posts and people by; reposts are worth their originals.

    Focus is what a session of a viewer is about. Somebody who knows all knows it from the session's first request on;
    somebody who knows tastes alone knows how likely each topic is at that time of day, and learns which it is from what
    the session shows: from its second request on.
    """

    def __init__(self, truth: Truth) -> None:
        self.truth = truth
        keys = np.array([key_of(identity) for identity in truth.post_ids], np.uint64)
        self._order = np.argsort(keys)
        self._keys = keys[self._order]
        self._people = {key_of(identity): row for row, identity in enumerate(truth.people_ids)}
        self._sessions: dict[int, list[tuple[int, int, int]]] = {}
        for person, start, end, focus in truth.sessions.tolist():
            self._sessions.setdefault(person, []).append((start, end, focus))

    def person(self, key: int) -> int:
        """Return the row of a viewer, NOBODY for one who is not of this world."""
        return self._people.get(key, NOBODY)

    def posts(self, keys: Keys) -> Ints:
        """Return the rows of posts, NOBODY for those that are not of this world."""
        place = np.minimum(np.searchsorted(self._keys, keys), len(self._keys) - 1)
        return np.where(self._keys[place] == keys, self._order[place], NOBODY)

    def focus(self, person: int, at_ms: int) -> tuple[Floats, Floats]:
        """Return the chances of each topic, [T] twice: as one who knows all has them, and as one who knows tastes."""
        part = (at_ms // HOUR_MS + int(self.truth.time_zone_h[person])) % 24 // (24 // PARTS)
        likely: Floats = self.truth.part_focus[person, part]
        for start, end, topic in self._sessions.get(person, ()):
            if start <= at_ms <= end:
                known = np.eye(TOPIC_COUNT)[topic]
                return known, likely if at_ms == start else known
        return likely, likely

    def probabilities(self, person: int, rows: Ints, followed: Bools, focus: Floats, quality: Floats) -> Floats:
        """Return [n, 19] as `Truth.utility` does, the mean over the topics of a focus [T].

        `followed` [n] says whether the viewer follows the author; `quality` [n] is what is believed of the posts'.
        """
        posts = self.truth.posts[rows]
        mix = mixes(posts)
        tastes = np.broadcast_to(self.truth.tastes[person], mix.shape)
        result = np.zeros((len(rows), 19))
        for topic in np.flatnonzero(focus):
            attention = np.broadcast_to(np.eye(TOPIC_COUNT)[topic], mix.shape)
            shown = Shown(
                affinity=affinity(tastes, mix, attention, self.truth.parameters.focus),
                quality=quality,
                followed=followed,
                video_ms=posts["video_ms"].astype(np.int64),
                photo=posts["photo"],
                quote=posts["quote"],
                spam=posts["spam"],
            )
            result += focus[topic] * action_probabilities(shown)
        return result
