"""Stands in for the vendored file while the server is read and typed in the repository.

The build puts gateways/standard_webhooks.py itself in this place, so that a release needs nothing outside its folder.
"""

from gateways.standard_webhooks import HEADER_ID, HEADER_SIGNATURE, HEADER_TIME, Verified, keys, sign, verify

__all__ = ["HEADER_ID", "HEADER_SIGNATURE", "HEADER_TIME", "Verified", "keys", "sign", "verify"]
