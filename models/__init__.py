"""Phoenix: the ranker, the two-tower retrieval model, their training and checkpoints."""
