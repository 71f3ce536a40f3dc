"""One feed for one viewer at one time, from a recorded log."""

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from msgspec.structs import replace

from flows.for_you import Answer, ForYou, Sinks, for_you
from flows.intake import Intake
from flows.replay import beside
from flows.terminal import Refusal
from infra.logs.reader import LogReader
from infra.polls import REQUEST_MARK, EachSink, PollSource, polls_of, run
from operators.clusters import NO_CHECKPOINTS, Clusters
from operators.cursors import Cursor, CursorRefused, issue, session_of
from operators.cursors import read as read_cursor
from operators.decode import Ownership
from operators.parameters import Parameters
from operators.ranking import Ranker
from operators.state import MemoryState, live_posts
from operators.visibility import DEFAULT, VisibilityRules
from schemas.codec import Refused, decode, encode
from schemas.events import FeedName, FeedRequest, Insert
from schemas.feeds import DeadLetter, Feed
from schemas.ids import Id, key_of
from schemas.polls import RawPoll

OWN_REQUEST = "run_flow.py feed"


def one_feed(
    log: Path,
    checkpoint: Path,
    parameters: Parameters,
    viewer: Id,
    at_ms: int | None,
    explain: bool,
    limit: int | None,
    progress: Callable[[int, int], None] | None = None,
    visibility: VisibilityRules = DEFAULT,
    clusters: Mapping[str, Path] = NO_CHECKPOINTS,
    feed: FeedName = "for_you",
    posts: tuple[Id, ...] = (),
    inserts: tuple[Insert, ...] = (),
    cursor: str = "",
    announced: Path | None = None,
) -> Feed:
    """Return the feed a viewer would get at a time, or at the log's end, after all that the log says before it.

    `feed` is the one wanted, `posts` are those to score, `inserts` what to blend in. Of the log's requests only the
    viewer's own count: what they served is remembered. `clusters` are checkpoints of further models by name; those that
    the log announces lie in `announced`, beside the log unless told. A `cursor`
    is that of a feed of the log's, or one that this made at the same time with the same limit: the pages before it are
    made again. Raises LogRefused, CheckpointRefused, ParameterRefused for a model nobody loaded, and Refusal for a
    viewer or a time that no request may have, and for a bad cursor.
    """
    try:
        asked = read_cursor(cursor, key_of(viewer), feed) if cursor else None
    except CursorRefused as error:
        raise Refusal(f"--cursor: {error}") from None
    models = Clusters.load(checkpoint, clusters)
    models.check(parameters)
    state = MemoryState(parameters, live_posts(parameters, models.prod, interest_clusters=True), visibility)
    ranker = Ranker(threads=1, in_work_max=1)
    answers: list[Answer] = []
    letters: list[DeadLetter] = []
    job = ForYou(Intake(state, parameters, Ownership(), check=models.check), models, ranker, announced or beside(log))
    wanted = FeedRequest(
        0,
        OWN_REQUEST,
        viewer,
        limit=limit,
        explain=explain,
        feed=feed,
        posts=posts,
        inserts=inserts,
        cursor=cursor,
    )
    polls = _until(LogReader(log), wanted, asked, at_ms, progress)
    run(for_you(job, PollSource(polls, ranker.ready), Sinks(EachSink(answers.extend), EachSink(letters.extend))))
    ranker.close()
    if not answers or answers[-1].feed.request != OWN_REQUEST:
        raise Refusal(f"viewer {viewer!r} can't be given a feed: {letters[-1].path} {letters[-1].reason}")
    made = answers[-1].feed
    if made.error is not None:
        raise Refusal(made.error)
    return made


def _until(
    reader: LogReader,
    wanted: FeedRequest,
    cursor: Cursor | None,
    at_ms: int | None,
    progress: Callable[[int, int], None] | None,
) -> Iterator[RawPoll]:
    """Yield a log up to a time, without the requests of others, and then the request, behind the pages before it."""
    last_ms, at_max = 0, 0
    for poll in polls_of(reader):
        if progress is not None:
            progress(reader.bytes_read, reader.bytes_total)
        kept: list[int] = []
        for index, line in enumerate(poll.raw):
            try:
                event = decode(line, poll.at_max)
            except Refused:
                continue
            if at_ms is not None and event.at > at_ms:
                continue
            last_ms, at_max = max(last_ms, event.at), poll.at_max
            if REQUEST_MARK not in line or (isinstance(event, FeedRequest) and event.viewer == wanted.viewer):
                kept.append(index)
        yield RawPoll(
            raw=[poll.raw[index] for index in kept],
            topics=[poll.topics[index] for index in kept],
            partitions=[0] * len(kept),
            offsets=[poll.offsets[index] for index in kept],
            read_at_s=poll.read_at_s,
            at_max=poll.at_max,
        )
    at = last_ms if at_ms is None else at_ms
    wanted = replace(wanted, at=at)
    for request in (*_pages_before(wanted, cursor), wanted):
        yield RawPoll([encode(request)], ["feed-requests"], [0], [0], 0.0, max(at, at_max))


def _pages_before(wanted: FeedRequest, cursor: Cursor | None) -> Iterator[FeedRequest]:
    """Yield the requests whose pages come before a page of our own; the log has those of its own."""
    if cursor is None:
        return  # before a viewer's name is used that may be refused yet
    viewer = key_of(wanted.viewer)
    if cursor.session != session_of(viewer, wanted.request, wanted.at):
        return
    plain = replace(wanted, explain=False, cursor="")
    yield plain
    for page in range(2, cursor.page):
        yield replace(plain, cursor=issue(Cursor(cursor.session, page), viewer, wanted.feed))
