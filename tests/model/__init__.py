"""Random histories of a store against a model of it."""
