"""Parts of `core/diff_parser.py` and `core/matcher.py`: how replies are read and placed (sans-IO)."""
