"""How many follow whom by their profiles, read by every instance: from the beginning at each start, as a global table.

Follows are not counted here. The graph is compacted, and its partitions come in no order among each other: what has
been taken back would count once too little, and what came before a profile twice. The newest profile of an account
says the same in whatever order it comes, and after every start.
"""

from typing import Final

from confluent_kafka import OFFSET_BEGINNING

from infra.kafka.inbox import BULK_PER_POLL, CONTEXT, Connection, Lane
from infra.operations import get_log
from infra.polls import latest_accepted_ms
from operators.deleted_users import DeletedUsers
from operators.posts.author_followers import AuthorFollowers
from schemas.codec import Refused, decode
from schemas.events import Profile
from schemas.ids import key_of
from schemas.message_keys import message_key

log = get_log("accounts")

GRAPH: Final = CONTEXT[1]
# What the keys of profiles end with; all other messages are passed over unread.
PROFILE_MARK: Final = b'"profile"]'


class Accounts:
    """Keeps the followers of authors up, a bounded number of messages a turn."""

    def __init__(
        self, connection: Connection, partitions: int, followers: AuthorFollowers, deleted: DeletedUsers
    ) -> None:
        starts = {(GRAPH, partition): OFFSET_BEGINNING for partition in range(partitions)}
        self._lane = Lane(connection, starts, lost="earliest", gathers=True)
        self._followers, self._deleted = followers, deleted

    def take(self) -> None:
        """Take in what has come. What is no profile after all is a dead letter elsewhere, and passed over here."""
        told = []
        for message in self._lane.poll(BULK_PER_POLL):
            key = message.key() or b""
            if not key.endswith(PROFILE_MARK):
                continue
            try:
                event = decode(message.value() or b"", latest_accepted_ms())
            except Refused as error:
                log.debug("no_profile", partition=message.partition(), offset=message.offset(), reason=str(error))
                continue
            if isinstance(event, Profile) and message_key(event) == key and key_of(event.viewer) not in self._deleted:
                told.append(event)
        self._followers.take(told)

    def close(self) -> None:
        """Leave."""
        self._lane.close()
