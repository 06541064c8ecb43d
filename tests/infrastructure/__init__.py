"""Tests of the test infrastructure itself: each fault really happens when it is asked for."""
