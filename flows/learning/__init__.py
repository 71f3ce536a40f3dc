"""Learning from what was served, while it is served: features, examples, and what is made of them."""
