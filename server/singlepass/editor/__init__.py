"""The editor, as seen by the server: its documents and folders, positions, and requests to it."""
