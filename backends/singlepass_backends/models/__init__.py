"""Models to choose from and to download: the implementation of `singlepass models`.

`catalogue.py` describes each model, `offer.py` estimates what it needs on a machine, `hub.py` implements the
API of the Hugging Face hub, `files.py` selects and verifies files, `pull.py` downloads, and `folder.py`
manages downloaded models. The engine uses none of it.
"""
