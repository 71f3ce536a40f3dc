"""MovieLens 1M: the next film, beside the published tables."""
