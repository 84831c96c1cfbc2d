"""The repository around a document: outlines of files, the map, neighbours."""
