"""Files on disk: which are the same, regular, source, protected, ignored or hold credentials."""
