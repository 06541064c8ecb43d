"""Taking the sessions of an application's own table into a native store."""
