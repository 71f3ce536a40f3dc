"""What the ranker hands to the slate."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from operators.clusters import Comparison
from operators.pipeline.candidates import CandidateTable
from operators.pipeline.runner import Accounting
from operators.pipeline.scorers.steps import Vectors
from operators.posts.names import Names
from operators.viewers.query import Query


@dataclass(slots=True)
class Ranked:
    """Candidates with the model's word on them: float32[n, 19], or None where the model failed or nobody asked it.

    `vectors` float32[n, D] are the unit vectors of the likely best, zeros for others. `comparison` is what shadow
    models are to score as well.
    """

    query: Query
    table: CandidateTable
    probabilities: npt.NDArray[np.float32] | None
    accounting: Accounting
    names: Names
    model: str
    vectors: Vectors | None = None
    comparison: Comparison | None = None
