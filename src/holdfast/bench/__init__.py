"""How fast Holdfast is on the configured database: `holdfast bench`."""
