"""The legacy form: what its rows become, and its file served in place beside the application that made it."""
