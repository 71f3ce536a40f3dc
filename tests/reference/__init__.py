"""The August pipeline once more, slow and obvious: from x-algorithm.md alone, dictionaries and loops, no columns."""
