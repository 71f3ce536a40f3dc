"""What the posts of a simulated world are worth to its people, quick for many posts of one viewer."""

from collections.abc import Sequence
from typing import Final

import numpy as np
import numpy.typing as npt

from infra.world.parameters import HOUR_MS
from infra.world.people import PARTS, TOPIC_COUNT
from infra.world.posts import mixes
from infra.world.rates import Bools, Floats, Shown, action_probabilities, affinity, tired
from infra.world.tastes import Ints
from infra.world.truth import Truth
from schemas.ids import Id, key_of

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
        self.table = truth.posts
        self._rows: dict[int, int] = {}
        self._people = {key_of(identity): row for row, identity in enumerate(truth.people_ids)}
        self._sessions: dict[int, list[Sequence[int]]] = {}
        self.add_posts(truth.posts, truth.post_ids)
        for session in truth.sessions.tolist():
            self.add_session(session)

    def add_posts(self, table: npt.NDArray[np.void], ids: Sequence[Id]) -> None:
        """Take the posts of a world that lives on: all of infra.world.posts.POST so far, and their ids."""
        self.table = table
        for row in range(len(self._rows), len(ids)):
            self._rows[key_of(ids[row])] = row

    def add_session(self, session: Sequence[int]) -> None:
        """Take a session: person, start, end, topic in focus. It is kept, so that its end may move."""
        self._sessions.setdefault(session[0], []).append(session)

    def person(self, key: int) -> int:
        """Return the row of a viewer, NOBODY for one who is not of this world."""
        return self._people.get(key, NOBODY)

    def posts(self, keys: Keys) -> Ints:
        """Return the rows of posts, NOBODY for those that are not of this world."""
        return np.array([self._rows.get(key, NOBODY) for key in keys.tolist()], np.int64)

    def focus(self, person: int, at_ms: int) -> tuple[Floats, Floats]:
        """Return the chances of each topic, [T] twice: as one who knows all has them, and as one who knows tastes."""
        part = (at_ms // HOUR_MS + int(self.truth.time_zone_h[person])) % 24 // (24 // PARTS)
        at = np.array([at_ms], np.int64)
        likely: Floats = self.truth.over_time.focus_at(np.array([person]), np.array([part]), at)[0]
        for _, start, end, topic in reversed(self._sessions.get(person, ())):
            if start <= at_ms <= end:
                known = np.eye(TOPIC_COUNT)[topic]
                return known, likely if at_ms == start else known
        return likely, likely

    def probabilities(
        self,
        person: int,
        at_ms: int,
        rows: Ints,
        followed: Bools,
        focus: Floats,
        quality: Floats,
        shown_before: Ints | None = None,
    ) -> Floats:
        """Return [n, 19] as `Truth.utility` does, the mean over the topics of a focus [T].

        `followed` [n] says whether the viewer follows the author; `quality` [n] is what is believed of the posts';
        `shown_before` [T] how many posts of each topic the session has shown, none if left out.
        """
        posts = self.table[rows]
        mix = mixes(posts)
        at = np.array([at_ms], np.int64)
        tastes = np.broadcast_to(self.truth.over_time.at(np.array([person]), at), mix.shape)
        shown = np.zeros(TOPIC_COUNT, np.int64) if shown_before is None else shown_before
        parameters = self.truth.parameters
        result = np.zeros((len(rows), 19))
        for topic in np.flatnonzero(focus):
            attention = np.broadcast_to(np.eye(TOPIC_COUNT)[topic], mix.shape)
            felt = affinity(tastes, mix, attention, parameters.focus)
            of_one = Shown(
                affinity=tired(felt, shown[posts["primary"]], parameters.fatigue),
                quality=quality,
                followed=followed,
                video_ms=posts["video_ms"].astype(np.int64),
                photo=posts["photo"],
                quote=posts["quote"],
                spam=posts["spam"],
            )
            result += focus[topic] * action_probabilities(of_one)
        return result
