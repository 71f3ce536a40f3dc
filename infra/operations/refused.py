"""What operations refuse."""


class OperationsRefused(ValueError):
    """Metrics, probes or tracing that can't be set up as asked; the message is one sentence with the way out."""
