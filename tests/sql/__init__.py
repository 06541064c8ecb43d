"""The parts of `holdfast.sql`, each alone."""
