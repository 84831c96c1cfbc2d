"""Models to choose from and to download: what `singlepass models` knows and does.

`catalogue.py` has what is known of each model, `offer.py` says what it takes on a machine, `hub.py` speaks
the protocol of the Hugging Face hub, `files.py` knows which files are wanted and when one is right, `pull.py`
downloads, and `folder.py` knows what was downloaded. The engine uses none of it.
"""
