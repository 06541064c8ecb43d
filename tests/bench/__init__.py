"""`holdfast bench`: the figures, and that nothing but figures remains."""
