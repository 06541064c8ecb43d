"""The web kit, from outside."""
