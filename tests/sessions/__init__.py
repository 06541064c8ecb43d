"""The domain on its own: no database, no network."""
