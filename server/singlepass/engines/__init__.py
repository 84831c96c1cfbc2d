"""Targets and their engines: attachments, routing, contexts and prewarms."""
