"""What several commands are told alike: logs, checkpoints, parameters, and where Kafka is."""

from pathlib import Path
from typing import Annotated, Final, cast, get_args

import typer

from flows.terminal import Refusal, viewer_id
from operators.clusters import CLUSTERS_MAX, NAME, PROD
from operators.experiments import NO_EXPERIMENTS, Experiments
from operators.parameters import DEFAULTS, Parameters, load, parse_assignment
from operators.presets import preset
from operators.visibility import DEFAULT, VisibilityRules
from schemas.events import FeedName, Insert, InsertKind

FEED_NAMES: Final[tuple[str, ...]] = get_args(FeedName)

Log = Annotated[
    Path, typer.Argument(help="JSON Lines, plain, .gz or .zst: one merged file, or a folder, a file a topic")
]
Out = Annotated[Path, typer.Option("--out", "-o", help="where the outputs go")]
Checkpoint = Annotated[str, typer.Option("--checkpoint", "-c", help="a Phoenix checkpoint: a path, or `demo`")]
ParameterFile = Annotated[
    Path | None,
    typer.Option("--parameters", "-p", help="a TOML file of parameters, or a preset's name"),
]
Set = Annotated[list[str] | None, typer.Option("--set", "-s", help="one parameter, as name=value; may be repeated")]
ExperimentFile = Annotated[
    Path | None, typer.Option("--experiments", help="a TOML file of experiments: shares of viewers, other parameters")
]
VisibilityFile = Annotated[
    Path | None,
    typer.Option("--visibility", help="a TOML file of rules of visibility; the built-in ones if left out"),
]
Cluster = Annotated[
    list[str] | None,
    typer.Option("--cluster", help="one more model, as name=checkpoint; `models.cluster` says which ranks; repeatable"),
]
Models = Annotated[
    Path | None,
    typer.Option("--models", help="where announced models lie whose paths are relative; beside the log if left out"),
]
FeedOption = Annotated[str, typer.Option("--feed", help=f"which feed: {', '.join(FEED_NAMES)}")]
PostsOption = Annotated[list[str] | None, typer.Option("--post", help="a post for --feed score_posts; may be repeated")]
FeedCursor = Annotated[
    str, typer.Option("--cursor", help="the page behind the feed that gave this cursor, with the same time and limit")
]
InsertsOption = Annotated[
    list[str] | None,
    typer.Option("--insert", help="for --feed blended, as kind=id: ad, prompt, push_to_home, survey"),
]
Json = Annotated[bool, typer.Option("--json", help="print JSON for machines")]


def parameters_from(file: Path | None, assignments: list[str] | None) -> Parameters:
    """Return the defaults, or a preset, with a file's and the command line's values in place."""
    if file is None:
        parameters = DEFAULTS
    else:
        parameters = load(file) if file.exists() or file.suffix else preset(str(file)).parameters
    return parameters.overridden(dict(parse_assignment(one) for one in assignments or []))


def feed_name(name: str) -> FeedName:
    """Return the name of a feed. Raises Refusal."""
    if name not in FEED_NAMES:
        raise Refusal(f"no feed is called {name}: choose one of {', '.join(FEED_NAMES)}")
    return cast(FeedName, name)


def inserts_from(texts: list[str] | None) -> tuple[Insert, ...]:
    """Return inserts given as kind=id. Raises Refusal."""
    kinds = get_args(InsertKind)
    pairs = [text.partition("=")[::2] for text in texts or ()]
    for kind, identity in pairs:
        if kind not in kinds or not identity:
            raise Refusal(f"{kind}={identity} is no insert: give kind=id, the kind one of {', '.join(kinds)}")
    return tuple(Insert(cast(InsertKind, kind), viewer_id(identity)) for kind, identity in pairs)


def checkpoint_path(name: str) -> Path:
    """Return the file of a checkpoint: those in the repository go by their names."""
    named = Path(__file__).parent.parent / "models" / "trained" / f"{name}.phoenix"
    return named if named.exists() else Path(name)


def clusters_from(assignments: list[str] | None) -> dict[str, Path]:
    """Return the checkpoint of each further model by its name. Raises Refusal."""
    found: dict[str, Path] = {}
    for one in assignments or []:
        name, equals, checkpoint = one.partition("=")
        if not equals or not checkpoint or not NAME.fullmatch(name):
            raise Refusal(f"--cluster {one}: give name=checkpoint, the name in small letters, digits, - and _")
        if name == PROD or name in found:
            raise Refusal(f"--cluster {one}: {name} is taken; `prod` is the model of --checkpoint")
        found[name] = checkpoint_path(checkpoint)
    if len(found) >= CLUSTERS_MAX:
        raise Refusal(f"--cluster: {len(found)} models beside `prod`; at most {CLUSTERS_MAX - 1} are taken")
    return found


def experiments_from(file: Path | None) -> Experiments:
    """Return the experiments of a file, none without one. Raises ParameterRefused."""
    return NO_EXPERIMENTS if file is None else Experiments.load(file)


def visibility_from(file: Path | None) -> VisibilityRules:
    """Return the rules of a file, the built-in ones without one. Raises VisibilityRefused."""
    return DEFAULT if file is None else VisibilityRules.load(file)
