"""A local Bunce and its pytest fixture, for tests and for trying things out."""
