"""Races: many callers, several servers and several processes on one store at once."""
