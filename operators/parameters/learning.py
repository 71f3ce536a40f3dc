"""Parameters of learning from what was served."""

from typing import Annotated

from msgspec import Struct

from operators.parameters.entries import meta


class Learning(Struct, frozen=True, forbid_unknown_fields=True):
    """What is kept of served feeds for the models to learn from."""

    features_enabled: Annotated[
        bool, meta("whether the features that ranked a served feed are logged for training", "ours", "job")
    ] = False
    inactivity_s: Annotated[
        int, meta("an example is closed after so long without an action on it", "6.1; a session's end", "job", ge=1)
    ] = 1800
    late_s: Annotated[
        int, meta("actions that come so much later are still counted, apart from examples", "ours", "job", ge=0)
    ] = 86_400
