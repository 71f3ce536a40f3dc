"""What is true of a simulated world, saved beside its log: with it any feed can be scored, shown or not."""

import os
import zipfile
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Final, Self

import msgspec
import numpy as np
import numpy.typing as npt

from infra.world.parameters import HOUR_MS, WorldParameters
from infra.world.people import PARTS, TOPIC_COUNT
from infra.world.posts import mixes
from infra.world.rates import Floats, Shown, action_probabilities, affinity
from infra.world.tastes import Ints, Tastes

TRUTH_SUFFIX: Final = ".truth.npz"


class TruthRefused(ValueError):
    """A truth that can't be read, or that doesn't know an id; the message is one sentence for people."""


def truth_path(log: str | os.PathLike[str]) -> Path:
    """Return where the truth of a log lies: beside it, its name with .truth.npz behind."""
    path = Path(log)
    return path.with_name(path.name + TRUTH_SUFFIX)


class Truth(msgspec.Struct, frozen=True, dict=True):
    """P people, N posts, S sessions by person and start, F changes of following by time; rows are indices in these.

    `tastes` and `part_focus` are those of the start; `over_time` knows them at any time.
    """

    parameters: WorldParameters
    people_ids: list[int | str]
    post_ids: list[int | str]
    posts: npt.NDArray[np.void]  # [N] of infra.world.posts.POST
    tastes: Floats  # [P, T]
    part_focus: Floats  # [P, 4, T]
    time_zone_h: Ints  # [P]
    writes: Floats  # [P, T]
    quality: Floats  # [P] of authors
    sessions: Ints  # [S, 4] person, start, end, topic in focus
    follow_changes: Ints  # [F, 4] person, author, time, 1 follows or 0 no longer

    @cached_property
    def over_time(self) -> Tastes:
        """The tastes at any time, and what sessions are about."""
        return Tastes(self.parameters, self.tastes, self.part_focus)

    def save(self, path: Path) -> None:
        """Write the truth; the same world gives the same bytes, and nothing is there until all of it is."""
        partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
        with partial.open("wb") as file:
            np.savez_compressed(
                file,
                parameters=_text(self.parameters),
                people_ids=_text(self.people_ids),
                post_ids=_text(self.post_ids),
                **{name: getattr(self, name) for name in _ARRAYS},
            )
        partial.replace(path)

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Self:
        """Read a truth; raises TruthRefused when the file is missing or isn't one."""
        try:
            with np.load(path, allow_pickle=False) as arrays:
                return cls(
                    parameters=msgspec.json.decode(arrays["parameters"].tobytes(), type=WorldParameters),
                    people_ids=msgspec.json.decode(arrays["people_ids"].tobytes(), type=list[int | str]),
                    post_ids=msgspec.json.decode(arrays["post_ids"].tobytes(), type=list[int | str]),
                    **{name: arrays[name] for name in _ARRAYS},
                )
        except FileNotFoundError:
            raise TruthRefused(f"{path} doesn't exist: only simulated logs have a truth beside them.") from None
        except (ValueError, KeyError, EOFError, zipfile.BadZipFile, msgspec.DecodeError) as error:
            raise TruthRefused(f"{path} is not the truth of a simulated world: {error}.") from None

    def utility(
        self, viewer_ids: Sequence[int | str], post_ids: Sequence[int | str], at_ms: int | npt.ArrayLike
    ) -> Floats:
        """Return [n, 19] in the order of schemas.actions: what each viewer does with a post looked at, and when.

        Probabilities, and expected seconds in the column dwell_time; of a repost, those of its original. Within a
        session of the viewer its focus counts, otherwise the chances of each topic at that time of day.
        Nobody is tired of anything, whatever the session has shown.
        Raises TruthRefused for an id this world doesn't have.
        """
        viewers = self.rows_of(viewer_ids, self._people_rows(), "viewer")
        posts = self.posts[self.rows_of(post_ids, self._post_rows(), "post")]
        posts = self.posts[posts["original"]]
        at = np.broadcast_to(np.asarray(at_ms, np.int64), viewers.shape)
        felt = affinity(self.over_time.at(viewers, at), mixes(posts), self._focus(viewers, at), self.parameters.focus)
        shown = Shown(
            affinity=felt,
            quality=posts["quality"],
            followed=self._followed(viewers, posts["author"], at),
            video_ms=posts["video_ms"].astype(np.int64),
            photo=posts["photo"],
            quote=posts["quote"],
            spam=posts["spam"],
        )
        return action_probabilities(shown)

    @staticmethod
    def rows_of(ids: Sequence[int | str], rows: dict[int | str, int], what: str) -> Ints:
        """Return the rows of ids; raises TruthRefused for an unknown one."""
        try:
            return np.array([rows[identity] for identity in ids], np.int64)
        except KeyError as error:
            raise TruthRefused(f"{what} {error} is not of this world.") from None

    def _people_rows(self) -> dict[int | str, int]:
        return {identity: row for row, identity in enumerate(self.people_ids)}

    def _post_rows(self) -> dict[int | str, int]:
        return {identity: row for row, identity in enumerate(self.post_ids)}

    def _focus(self, viewers: Ints, at: Ints) -> Floats:
        """Return [n, T] what each viewer's attention is on at that time."""
        part = (at // HOUR_MS + self.time_zone_h[viewers]) % 24 // (24 // PARTS)
        focus = self.over_time.focus_at(viewers, part, at)
        if len(self.sessions):
            starts = _by_person(self.sessions[:, 0], self.sessions[:, 1], self.parameters)
            place = np.searchsorted(starts, _by_person(viewers, at, self.parameters), "right") - 1
            found = self.sessions[place]
            inside = (place >= 0) & (found[:, 0] == viewers) & (at <= found[:, 2])
            focus[inside] = np.eye(TOPIC_COUNT)[found[inside, 3]]
        return focus

    def _followed(self, viewers: Ints, authors: npt.NDArray[np.int32], at: Ints) -> npt.NDArray[np.bool_]:
        """Return [n] whether each viewer follows the author at that time."""
        changes: dict[tuple[int, int], list[tuple[int, int]]] = {}
        for person, author, time, state in self.follow_changes.tolist():
            changes.setdefault((person, author), []).append((time, state))
        result = np.zeros(viewers.size, np.bool_)
        for place, pair in enumerate(zip(viewers.tolist(), authors.tolist(), strict=True)):
            for time, state in changes.get(pair, ()):
                if time <= at[place]:
                    result[place] = state == 1
        return result


_ARRAYS: Final = tuple(
    field.name for field in msgspec.structs.fields(Truth) if field.name not in {"parameters", "people_ids", "post_ids"}
)


def _by_person(people: Ints, at: Ints, parameters: WorldParameters) -> Ints:
    """Return keys that sort by person, then by time since a day before the world's start."""
    since = np.clip(at - parameters.start_ms + 24 * HOUR_MS, 0, 2**38 - 1)
    return people.astype(np.int64) * 2**38 + since


def _text(value: object) -> npt.NDArray[np.uint8]:
    """Return JSON as bytes, the one form of text in which ids of both kinds come back as they were."""
    return np.frombuffer(msgspec.json.encode(value), np.uint8)
