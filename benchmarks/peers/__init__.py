"""What Holdfast is measured against, each with its whole configuration in its file."""
