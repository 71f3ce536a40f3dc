"""Several instances of the job on one machine: processes of their own, each with its share of the viewers."""

import multiprocessing
from collections.abc import Iterable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace

from rich.console import Console

from flows.replay import Replay, Summary, digest, merge, merged_summary, replay
from infra.logs.files import STANDARD_INPUT, LogRefused
from operators.decode import Ownership


def replay_instances(what: Replay, instances: int, console: Console) -> Summary:
    """Replay a log with n processes and merge what they write; raises what any of them raises."""
    if instances == 1:
        return replay(what)
    _refuse_stream(what)
    shares = [
        replace(what, out=what.out / f"instance-{k}-of-{instances}", ownership=Ownership(k, instances))
        for k in range(instances)
    ]
    # A forked child would inherit JAX's threads in the middle of their work.
    context = multiprocessing.get_context("spawn")
    with (
        console.status(f"replaying {what.log.name} with {instances} instances"),
        ProcessPoolExecutor(instances, mp_context=context) as pool,
    ):
        list(pool.map(replay, shares))
    parts = [share.out for share in shares]
    merge(parts, what.out)
    return merged_summary(parts)


def _refuse_stream(what: Replay) -> None:
    if str(what.log) == STANDARD_INPUT:
        raise LogRefused("standard input can be read once only: write it to a file to replay it more than once.")


def verify(what: Replay, counts: Iterable[int], console: Console) -> dict[int, str]:
    """Replay a log with each number of instances; return the SHA-256 of the feeds of each."""
    _refuse_stream(what)
    digests = {}
    for instances in counts:
        share = replace(what, out=what.out / f"verify-{instances}")
        replay_instances(share, instances, console)
        digests[instances] = digest(share.out)
    return digests
