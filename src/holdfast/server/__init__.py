"""The ready-made server: everything is wired here and only here."""
