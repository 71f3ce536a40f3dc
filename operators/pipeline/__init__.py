"""The For You pipeline over a table of candidates: sources, hydration, filters, scorers, selection, explanation."""
