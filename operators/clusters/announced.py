"""Models that are announced while a job runs: from the announcement to a model that is ready to answer."""

from pathlib import Path

from models.phoenix import CheckpointRefused, Phoenix, Progress
from schemas.events import ModelAnnounced


def load_announced(
    event: ModelAnnounced, folder: Path, candidates_max: int, progress: Progress | None = None
) -> Phoenix:
    """Return an announced model, its shapes compiled for requests of up to `candidates_max` candidates.

    `progress` is told of the shapes compiled and of all. Raises CheckpointRefused as `read_announced` does.
    """
    phoenix = read_announced(event, folder)
    phoenix.warm_up(candidates_max, progress)
    return phoenix


def read_announced(event: ModelAnnounced, folder: Path) -> Phoenix:
    """Return an announced model, not compiled yet.

    Paths that are not absolute lie in `folder`. Raises CheckpointRefused for a file that is missing, damaged, another
    than announced or of another version of the code, and for a relative path that leads out of the folder.
    """
    phoenix = Phoenix.load(place_of(event, folder), sha256=event.sha256)
    if phoenix.version != event.model:
        raise CheckpointRefused(f"{event.checkpoint}: it holds model {phoenix.version}, not {event.model} as announced")
    return phoenix


def place_of(event: ModelAnnounced, folder: Path) -> Path:
    """Return where an announced checkpoint lies. Raises CheckpointRefused for a relative path out of the folder."""
    path = Path(event.checkpoint)
    if not path.is_absolute() and ".." in path.parts:
        raise CheckpointRefused(f"{path} leads out of the folder of models, {folder}: give an absolute path")
    return folder / path
