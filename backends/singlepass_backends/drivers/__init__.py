"""One file per runtime. A driver imports `base` and its own runtime only; only `opening` names drivers."""
