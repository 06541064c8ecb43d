"""What may be wrong where Holdfast runs, found by looking; changes nothing."""
