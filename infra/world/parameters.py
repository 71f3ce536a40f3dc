"""How large a simulated world is and how its people behave."""

from typing import Annotated, Final

import msgspec
from msgspec import Meta, Struct

HOUR_MS: Final = 3_600_000
DAY_MS: Final = 24 * HOUR_MS

Share = Annotated[float, Meta(ge=0, le=1)]
Positive = Annotated[float, Meta(gt=0)]


class WorldParameters(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Sizes, rates and shares of a world; the defaults are the demo's. Everybody both reads and writes."""

    seed: int = 20260105
    people: Annotated[int, Meta(ge=2, le=10_000_000)] = 300
    days: Positive = 3.0
    start_ms: Annotated[int, Meta(ge=0)] = 1_767_571_200_000  # Monday 5 January 2026, 00:00 UTC
    posts_per_person_day: Positive = 3.2  # originals; reposts, replies and quotes come of what people do
    sessions_per_person_day: Positive = 0.9
    requests_per_session: Annotated[int, Meta(ge=1, le=20)] = 2  # at most
    slate: Annotated[int, Meta(ge=1, le=100)] = 20  # posts shown a request
    follows_per_person: Positive = 22.0
    # Feed requests before this day are left out of the log; what was served and done then is always in it.
    requests_from_day: Annotated[float, Meta(ge=0)] = 0.0
    # How the logging policy fills a slate; the rest is drawn at random from all eligible posts.
    followed_share: Share = 0.55
    popular_share: Share = 0.20
    string_id_share: Share = 0.0  # people whose ids, and whose posts' ids, are strings
    video_share: Share = 0.16
    photo_share: Share = 0.25
    deleted_share: Share = 0.02
    spam_people_share: Share = 0.02
    nsfw_people_share: Share = 0.02
    subscriber_people_share: Share = 0.05
    focus: Share = 0.5  # how much of a session's attention its topic of the hour takes
    # People who open no feed before this day; a world that ends earlier never sees them read.
    new_readers_share: Share = 0.0
    new_readers_from_day: Annotated[float, Meta(ge=0)] = 0.0
    # Whether clients tell as seen what was on the screen alone, and not all of a feed that somebody left in its middle.
    tells_looks: bool = False
    # Tastes stay as they are unless one of these says otherwise (infra/world/tastes.py); 0 is never.
    taste_drift_day: Share = 0.0  # people who trade a liked topic for another at the end of a day
    taste_change_day: Annotated[float, Meta(ge=0)] = 0.0  # when everybody trades all liked topics
    # What each post of a topic shown in a session takes off the affinity for the next one on that topic.
    fatigue: Share = 0.0

    def before(self, days: float) -> "WorldParameters":
        """Return the world that the same people lived in for so many days before this one began."""
        return msgspec.structs.replace(
            self,
            days=days,
            start_ms=self.start_ms - round(days * DAY_MS),
            requests_from_day=days,
            new_readers_from_day=days,
        )


# A week, so that a viewer's history fills; feeds are asked for on its last afternoon, and some read for the first time.
_DEMO: Final = WorldParameters(
    days=7.0,
    sessions_per_person_day=2.0,
    requests_from_day=6.5,
    new_readers_share=0.1,
    new_readers_from_day=6.0,
)
PRESETS: Final[dict[str, WorldParameters]] = {
    "demo": _DEMO,
    "small": WorldParameters(people=40, days=1.0, follows_per_person=8.0),
    "large": WorldParameters(people=5_000, days=7.0, follows_per_person=60.0),
    # Twelve weeks of the demo's people, for its model to learn from: nothing of the demo itself is in them.
    # For closed loops: people who come often, so that a simulated week teaches something.
    "loop": WorldParameters(
        people=100,
        days=7.0,
        posts_per_person_day=6.0,
        sessions_per_person_day=4.0,
        requests_per_session=3,
        follows_per_person=12.0,
        tells_looks=True,
    ),
    "before-demo": _DEMO.before(days=84.0),
}
