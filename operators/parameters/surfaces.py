"""Parameters of the feeds beside For You."""

from typing import Annotated

from msgspec import Struct

from operators.parameters.entries import meta, switch


class Following(Struct, frozen=True, forbid_unknown_fields=True):
    """The feeds of followed accounts alone."""

    ranked_size: Annotated[
        int, meta("posts in a ranked feed of those followed", "1.5 other surfaces", ge=1, le=200)
    ] = 38
    size: Annotated[int, meta("posts in the feed of those followed, newest first", "1.5 following", ge=1, le=200)] = 110


class Blending(Struct, frozen=True, forbid_unknown_fields=True):
    """The blended feed. X's "max size 35 + 4 + 8" is read as posts, kinds of module and ads."""

    ad: Annotated[bool, switch("1.5 blending")] = True
    push_to_home: Annotated[bool, switch("1.5 blending")] = True
    prompt: Annotated[bool, switch("1.5 blending")] = True
    who_to_follow: Annotated[bool, switch("1.5 blending")] = True
    survey: Annotated[bool, meta("run this component; X's own source of surveys is off", "1.5 blending")] = True
    prompt_position: Annotated[int, meta("place of a prompt, from 0", "1.5 blending", ge=0, le=400)] = 0
    who_to_follow_position: Annotated[int, meta("place of whom to follow, from 0", "1.5 blending", ge=0, le=400)] = 6
    survey_position: Annotated[int, meta("place of a survey, from 0", "1.5 blending", ge=0, le=400)] = 12
    who_to_follow_fatigue_s: Annotated[
        int, meta("time until whom to follow is suggested again; 30 hours", "1.5 blending", ge=0)
    ] = 108_000
    survey_fatigue_s: Annotated[int, meta("time until the next survey; 24 hours", "1.5 blending", ge=0)] = 86_400
    modules_max: Annotated[int, meta("modules in a feed, beside ads", "1.5 blending", ge=0)] = 4
    ads_max: Annotated[int, meta("ads in a feed", "1.5 blending", ge=0)] = 8
    ads_gap: Annotated[int, meta("posts before an ad; the safe gap is not published", "not X's", ge=1)] = 4
    suggestions_max: Annotated[int, meta("accounts suggested", "not X's", ge=1, le=40)] = 3
    suggested_from: Annotated[int, meta("best-ranked posts whose authors are looked at", "not X's", ge=1)] = 100
