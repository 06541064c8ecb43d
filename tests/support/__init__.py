"""Real servers, proxies and pytest fixtures that the suites share."""
