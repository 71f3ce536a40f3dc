"""Live posts: the table of them and the index that finds the nearest."""
