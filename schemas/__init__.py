"""Event and feed types, their codec and their JSON Schemas. This room imports nothing of the project."""
