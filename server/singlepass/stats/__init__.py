"""The history of requests: records, how they are kept, estimates and statistics of them."""
