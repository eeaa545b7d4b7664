"""Where mail is kept: a small interface, in memory and in SQLite."""
