"""The benchmark runs; what it measures is not for a test."""
