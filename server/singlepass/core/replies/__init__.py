"""Parts of `core/diff_parser.py` and `core/matcher.py`: what a model wrote, read and placed (sans-IO)."""
