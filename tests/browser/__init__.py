"""A real browser: the JavaScript client, and the chat as its users see it. `make browser` runs these."""
