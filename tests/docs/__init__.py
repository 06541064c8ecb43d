"""The documents: their examples run, their links lead somewhere, and nothing public is missing from them."""
