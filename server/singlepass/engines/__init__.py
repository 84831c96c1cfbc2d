"""Targets and their engines: attached, chosen for a request, given a context, prewarmed."""
