"""The files under `deploy/`, as far as no engine is needed to look at them."""
