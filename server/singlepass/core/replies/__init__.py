"""What a model wrote, read and placed: hunks of a reply, and where in a document they belong (sans-IO)."""
