"""What a parameter says of itself: what it means, where it comes from, and whether a request may change it."""

from msgspec import Meta


def meta(
    description: str, source: str, scope: str = "request", *, ge: float | None = None, le: float | None = None
) -> Meta:
    """Return what a parameter says of itself; one with scope "job" stays as the job was started."""
    return Meta(description=description, extra={"source": source, "scope": scope}, ge=ge, le=le)


def switch(source: str) -> Meta:
    """Return what the switch of a component says of itself."""
    return meta("run this component", source)
