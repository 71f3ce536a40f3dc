"""From scores to the feed: the best, what visibility leaves, one of a conversation, cut (x-algorithm.md 1.2, 1.5)."""

from tests.reference.filters import Case, Post
from tests.reference.scorers import ranking

Placed = tuple[Post, float]


def conversation(post: Post) -> int:
    """The root of a reply's conversation; without one, what it replies to, and else the post itself."""
    return int(post["conversation"] or post["reply_to"] or post["id"])


def dedup_conversation(placed: list[Placed]) -> list[Placed]:
    """The best of each conversation, in the place of its first."""
    kept: list[Placed] = []
    for post, score in placed:
        for place, (other, best) in enumerate(kept):
            if conversation(other) == conversation(post):
                if score > best:
                    kept[place] = (post, score)
                break
        else:
            kept.append((post, score))
    return kept


def slate_diversity(placed: list[Placed], case: Case) -> list[Placed]:
    """At most so many posts of an author at the top, and no topic twice in a row; the topic yields first (1.6)."""
    settings = case["settings"]
    waiting, top = list(placed), list[Placed]()

    def authors(post: Post) -> set[int]:
        return {post["author"], post["original_author"] if post["repost_of"] else post["author"]}

    def fits(post: Post) -> bool:
        return all(
            sum(author in authors(other) for other, _ in top) < settings["slate_diversity.per_author"]
            for author in authors(post)
        )

    def repeats(post: Post) -> bool:
        return bool(top and post["topics"] and top[-1][0]["topics"][:1] == post["topics"][:1])

    while waiting and len(top) < settings["slate_diversity.top"]:
        near = waiting[: settings["slate_diversity.look_ahead"]]
        best = [one for one in near if fits(one[0]) and not repeats(one[0])]
        good = [one for one in near if fits(one[0])]
        taken = (best or good or near)[0]
        top.append(taken)
        waiting.pop(next(place for place, one in enumerate(waiting) if one is taken))
    return top + waiting


def run(posts: list[Post], scores: list[float], case: Case) -> list[Placed]:
    """Return the posts of the feed with their scores, in order."""
    settings = case["settings"]
    placed = [(posts[i], scores[i]) for i in ranking(scores, posts)[: case["selected"]]]
    if settings["filters.visibility"]:
        placed = [one for one in placed if one[0]["verdict"] <= 0]
    if settings["filters.ancillary_visibility"]:
        placed = [one for one in placed if one[0]["ancillary_verdict"] == 0]
    if settings["filters.dedup_conversation"]:
        placed = dedup_conversation(placed)
    if settings["slate_diversity.enabled"]:
        placed = slate_diversity(placed, case)
    return placed[: case["size"]]
