"""Where examples to train on come from: a log that is followed, or files that were made of one before."""

from collections.abc import Callable, Iterator
from pathlib import Path
from shlex import quote
from typing import Final

import msgspec
from msgspec import Struct

from flows.example_files import ROWS_A_FILE, ExamplesMade, Manifest, read_examples, read_manifest
from flows.example_files import write_examples as write_files
from flows.intake import Intake
from flows.training_batches import OrderedLog
from flows.training_examples import Example, examples
from operators.decode import Ownership
from operators.parameters import DEFAULTS, ParameterRefused, Parameters, assignment
from operators.state import MemoryState, live_posts

POSTS_MAX: Final = 32  # posts of a request: what a screen or two shows

Told = Callable[[float, float], None]


def changed_parameters(parameters: Parameters) -> list[str]:
    """Return which parameters differ from the defaults, as the command line says it."""
    usual = msgspec.to_builtins(DEFAULTS)
    return [
        f"--set {quote(assignment(f'{section}.{field}', value))}"
        for section, fields in msgspec.to_builtins(parameters).items()
        for field, value in fields.items()
        if value != usual[section][field]
    ]


def stored(folder: Path, posts_max: int, co_likers: bool, parameters: Parameters, reading: Told) -> Iterator[Example]:
    """Return the examples of a folder; raises ParameterRefused where others are asked for than were made."""
    made = read_manifest(folder)
    if posts_max != made.posts_max:
        raise ParameterRefused(
            f"the examples in {folder} have up to {made.posts_max} posts each, not {posts_max}: train with --posts"
            f" {made.posts_max}, or make others"
        )
    if co_likers and not made.co_likers:
        raise ParameterRefused(f"co-likers were not asked for the examples in {folder}: make them with --co-likers")
    if parameters != DEFAULTS:
        raise ParameterRefused(f"the examples in {folder} are made already: give parameters where they are made")
    return read_examples(folder, reading)


def followed(
    log: Path, parameters: Parameters, co_likers: bool, posts_max: int, seed: int, reading: Told
) -> Iterator[Example]:
    """Return the examples of a log, which must be in order of time."""
    return examples(OrderedLog(log), intake_for(parameters, co_likers), posts_max, seed, reading)


class ExamplesRun(Struct, frozen=True):
    """What examples to write, and where to: as TrainingRun has them, with up to `rows` a file or a file an hour."""

    log: Path
    out: Path
    parameters: Parameters
    until_ms: int | None = None
    seed: int = 0
    posts_max: int = POSTS_MAX
    co_likers: bool = False
    rows: int = ROWS_A_FILE
    hourly: bool = False


def write_examples(run: ExamplesRun, reading: Told) -> Manifest:
    """Write the examples of a log as files; trained on, they give the losses that the log gives, to the bit.

    Raises LogRefused and OSError.
    """
    made = followed(run.log, run.parameters, run.co_likers, run.posts_max, run.seed, reading)
    command = f"run_flow.py examples {run.log.name} --posts {run.posts_max} --seed {run.seed}"
    changed = changed_parameters(run.parameters)
    told_of = ExamplesMade(run.log.name, " ".join([command, *changed]), run.posts_max, run.seed, run.co_likers)
    return write_files(run.out, before(made, run.until_ms), told_of, run.rows, run.hourly)


def intake_for(parameters: Parameters, co_likers: bool) -> Intake:
    """Return the state that examples are made over, empty."""
    posts = live_posts(parameters, co_likers=co_likers)
    return Intake(MemoryState(parameters, posts), parameters, Ownership())


def before(made: Iterator[Example], until_ms: int | None) -> Iterator[Example]:
    """Yield the examples up to the first of a time, or of any later one."""
    for example in made:
        if until_ms is not None and example.context.at_ms >= until_ms:
            return
        yield example
