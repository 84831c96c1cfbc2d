"""One request for an edit: from the command to hunks in the buffer, their review, and the outcome."""
