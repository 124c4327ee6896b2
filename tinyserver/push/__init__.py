"""Who is told of what: unread counts, and later pushers."""
