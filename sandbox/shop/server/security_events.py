"""Stands in for the vendored file while the server is read and typed in the repository.

The build puts pipeline/security_events.py itself in this place, so that a release needs nothing outside its folder.
"""

from pipeline.security_events import KINDS, members, without_cards

__all__ = ["KINDS", "members", "without_cards"]
