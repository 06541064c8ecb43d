"""Bars B10 and B11: what a guarded socket costs, and how soon it hears of its session's end."""
