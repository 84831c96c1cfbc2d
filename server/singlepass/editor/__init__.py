"""The editor as the server sees it: its documents, its folders, positions, and what may be asked of it."""
