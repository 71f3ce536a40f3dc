"""The filters of x-algorithm.md 1.5 as its table has them: each takes a list of posts and returns those it keeps.

A post is a dictionary of facts, and so are the viewer and the request (tests/reference/cases.py draws them). `settings`
are the parameters by their dotted names.
"""

from collections.abc import Callable
from typing import Any

Post = dict[str, Any]
Case = dict[str, Any]
Rule = Callable[[list[Post], Case], list[Post]]

SIMCLUSTERS = "simclusters"


def related(post: Post) -> set[int]:
    """The post's own id, that of what it reposts, and that of what it replies to."""
    return {one for one in (post["id"], post["repost_of"], post["reply_to"]) if one}


def original(post: Post) -> int:
    return int(post["repost_of"] or post["id"])


def in_network(post: Post, case: Case) -> bool:
    return post["author"] in case["viewer"]["followed"] or post["author"] == case["viewer"]["id"]


def each(keeps: Callable[[Post, Case], bool]) -> Rule:
    """A rule that looks at one post at a time."""
    return lambda posts, case: [post for post in posts if keeps(post, case)]


def drop_duplicates(posts: list[Post], _case: Case) -> list[Post]:
    seen, kept = set(), []
    for post in posts:
        if post["id"] not in seen:
            kept.append(post)
        seen.add(post["id"])
    return kept


def retweet_deduplication(posts: list[Post], case: Case) -> list[Post]:
    seen, kept = set(), []
    for post in posts:
        is_original_in_january = case["settings"]["filters.originals_pass"] and not post["repost_of"]
        if original(post) not in seen or is_original_in_january:
            kept.append(post)
        seen.add(original(post))
    return kept


def oon_retweet_reply(post: Post, case: Case) -> bool:
    if not in_network(post, case) and (post["repost_of"] or post["reply_to"]):
        return False
    return not (post["reply_to"] and not post["parent_is_live"])


def oon_nsfw_simclusters(post: Post, case: Case) -> bool:
    return not (post["source"] == SIMCLUSTERS and not in_network(post, case) and post["verdict"] > 0)


def ineligible_subscription(post: Post, case: Case) -> bool:
    owner = post["original_author"] if post["repost_of"] else post["author"]
    return not post["subscribers_only"] or owner in case["viewer"]["subscribed"]


def previously_served(posts: list[Post], case: Case) -> list[Post]:
    if not (case["settings"]["filters.served_every_request"] or case["request"]["bottom"]):
        return posts
    return [post for post in posts if not related(post) & case["viewer"]["served"]]


def author_socialgraph(post: Post, case: Case) -> bool:
    viewer = case["viewer"]
    author, quoted, reposted = post["author"], post["quote_author"], post["original_author"]
    if author in viewer["muted"] or author in viewer["blocked"] or author in viewer["blocked_by"]:
        return False
    if quoted in viewer["blocked"] or quoted in viewer["blocked_by"]:
        return False
    return not (post["repost_of"] and reposted in viewer["blocked"])


def author_list(post: Post, case: Case) -> bool:
    listed = {int(one) for one in case["settings"]["filters.listed_authors"]}
    people = {post["author"], post["quote_author"]}
    if post["repost_of"]:
        people.add(post["original_author"])
    if post["reply_to"]:
        people.add(post["reply_author"])
    return not any(one in listed and one not in case["viewer"]["followed"] for one in people)


def topic_ids(post: Post, case: Case) -> bool:
    asked, excluded = set(case["request"]["topics"]), set(case["request"]["excluded_topics"])
    topics = set(post["topics"])
    if asked and not topics & asked:
        return False
    return not (excluded and (not topics or topics & excluded))


def new_user_min_engagement(posts: list[Post], case: Case) -> list[Post]:
    created_ms = case["viewer"]["created_ms"]
    settings = case["settings"]
    if created_ms is None or case["now_ms"] - created_ms >= settings["filters.new_user_age_s"] * 1000:
        return posts
    if not any(post["actions"] for post in posts):
        return posts
    least = settings["filters.new_user_engagement_min"]
    return [post for post in posts if in_network(post, case) or post["actions"] >= least]


def drawn(post: Post, case: Case) -> int:
    """A number from 0 to 99 for an original and a viewer: splitmix64 of the one and a multiple of the other."""
    golden, mask = 0x9E3779B97F4A7C15, 2**64 - 1
    z = ((original(post) ^ (case["viewer"]["id"] * golden & mask)) + golden) & mask
    z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & mask
    z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & mask
    return (z ^ (z >> 31)) % 100


def inventory_holdout(post: Post, case: Case) -> bool:
    kind = "filters.holdout_percent" if in_network(post, case) else "filters.holdout_percent_oon"
    return bool(drawn(post, case) >= case["settings"][kind])


def fav_holdout(post: Post, case: Case) -> bool:
    percent, likes = 2, post["favorites"]
    while likes:
        percent, likes = percent + 1, likes // 2
    return drawn(post, case) >= min(percent, 15)


def too_old(post: Post, case: Case) -> bool:
    return bool(case["now_ms"] - post["created_ms"] > case["settings"]["filters.age_s"] * 1000)


# The rows of the table, in its order: name, rule.
FILTERS: list[tuple[str, Rule]] = [
    ("drop_duplicates", drop_duplicates),
    ("core_data_hydration", each(lambda post, _case: post["author"] != 0)),
    ("age", each(lambda post, case: not too_old(post, case))),
    ("self_tweet", each(lambda post, case: post["author"] != case["viewer"]["id"])),
    ("oon_retweet_reply", each(oon_retweet_reply)),
    ("oon_nsfw_simclusters", each(oon_nsfw_simclusters)),
    ("retweet_deduplication", retweet_deduplication),
    ("ineligible_subscription", each(ineligible_subscription)),
    ("previously_seen", each(lambda post, case: not related(post) & case["viewer"]["seen"])),
    ("previously_seen_backup", each(lambda post, case: not related(post) & case["viewer"]["engaged"])),
    ("previously_served", previously_served),
    ("viewer_muted_keyword", each(lambda post, _case: not post["muted"])),
    ("author_socialgraph", each(author_socialgraph)),
    ("author_list", each(author_list)),
    ("video", each(lambda post, case: not (case["request"]["exclude_videos"] and post["has_video"]))),
    ("topic_ids", each(topic_ids)),
    ("new_user_min_engagement", new_user_min_engagement),
    ("inventory_holdout", each(inventory_holdout)),
    ("fav_holdout", each(fav_holdout)),
]


def run(case: Case) -> list[Post]:
    """Return the candidates that all filters keep, in their order."""
    posts: list[Post] = case["candidates"]
    for name, rule in FILTERS:
        if case["settings"][f"filters.{name}"]:
            posts = rule(posts, case)
    return posts
