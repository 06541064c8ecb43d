"""An application's own `sessions` table, from before it had Holdfast: reading it, and serving it in place."""
