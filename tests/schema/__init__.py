"""The tables: installed, upgraded, compared, refused, and shared with an application."""
