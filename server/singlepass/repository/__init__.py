"""What is known of the repository around a document: outlines, the map, neighbours."""
