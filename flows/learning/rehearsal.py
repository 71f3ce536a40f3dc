"""Examples of earlier intervals, from which a trainer learns again: what is seen once or thrice in a row is forgotten.

On disk they are a file of each interval, beside the state of the run that names them.
"""

from collections import deque
from collections.abc import Container
from pathlib import Path
from typing import Final

import numpy as np
from msgspec import Struct

from flows.example_files import SUFFIX, Part, read_part, write_part
from flows.training_examples import Example
from infra.logs.files import LogRefused
from models.checkpoints import CheckpointRefused

_OF_DRAWS: Final = 1  # beside the seed: what is drawn here moves nothing else


class _Kept(Struct):
    """The examples of one interval, and their file and its number where it is written."""

    examples: list[Example]
    part: Part | None = None
    number: int = 0


class Rehearsal:
    """The latest intervals, of up to `most` examples in all; what is drawn depends on them, the seed and the number."""

    def __init__(self, most: int, seed: int) -> None:
        self._most, self._seed = most, seed
        self._kept: deque[_Kept] = deque()
        self._count = 0
        self._written = 0  # the number of the latest file

    def __len__(self) -> int:
        return self._count

    def add(self, examples: list[Example]) -> None:
        """Take in an interval's examples; the oldest intervals leave where there are too many."""
        self._kept.append(_Kept(examples))
        self._count += len(examples)
        while self._count > self._most:
            self._count -= len(self._kept.popleft().examples)

    def forget(self, viewers: Container[int]) -> None:
        """Drop the examples of viewers by their keys; files that held any are written anew by the next `save`."""
        for one in self._kept:
            left = [example for example in one.examples if example.context.key not in viewers]
            if len(left) < len(one.examples):
                self._count -= len(one.examples) - len(left)
                one.examples, one.part = left, None
        self._kept = deque(one for one in self._kept if one.examples)

    def drawn(self, number: int, count: int) -> list[Example]:
        """Return so many examples for an interval, each as likely as any other; few of them come twice."""
        everything = [example for one in self._kept for example in one.examples]
        if not everything:
            return []
        rng = np.random.default_rng([self._seed, number, _OF_DRAWS])
        return [everything[row] for row in rng.integers(0, len(everything), count).tolist()]

    def save(self, folder: Path) -> list[tuple[int, Part]]:
        """Write what is not written yet and return all files with their numbers. Raises OSError.

        Nothing is written over: killed now, the run goes on from the files of the state before.
        """
        if self._kept:
            folder.mkdir(exist_ok=True)
        files = []
        for one in self._kept:
            if one.part is None:
                self._written += 1
                one.number, one.part = self._written, write_part(folder, self._written, one.examples)
            files.append((one.number, one.part))
        return files

    def tidy(self, folder: Path) -> None:
        """Remove files that `save` does not name any more: once the state that names the others is on disk."""
        named = {one.part.name for one in self._kept if one.part is not None}
        for path in folder.glob(f"*{SUFFIX}"):
            if path.name not in named:
                path.unlink()

    def load(self, folder: Path, files: list[tuple[int, Part]]) -> None:
        """Take in the files that `save` returned.

        Raises CheckpointRefused where one is missing, cut or damaged.
        """
        for number, part in files:
            try:
                examples = list(read_part(folder, part))
            except LogRefused as refused:
                raise CheckpointRefused(f"{refused}: it is learned from again") from None
            self._kept.append(_Kept(examples, part, number))
            self._written = max(self._written, number)
            self._count += len(examples)
