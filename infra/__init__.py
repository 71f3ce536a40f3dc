"""What surrounds a flow: recorded logs and their importers, sources and sinks. Knows schemas and Bytewax only."""
