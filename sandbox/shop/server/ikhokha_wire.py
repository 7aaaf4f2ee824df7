"""Stands in for the vendored file while the server is read and typed in the repository.

The build puts gateways/ikhokha_wire.py itself in this place, so that a release needs nothing outside its folder.
"""

from gateways.ikhokha_wire import (
    BAD_SIGNATURE,
    FAILURE,
    HEADER_APP,
    HEADER_SIGN,
    HISTORY_PATH,
    OK,
    PAID,
    PAYMENT_PATH,
    STATUS_EXTERNAL_PATH,
    STATUS_PATH,
    SUCCESS,
    canonical,
    serialise,
    sign,
    verify,
    webhook_text,
)

__all__ = [
    "BAD_SIGNATURE",
    "FAILURE",
    "HEADER_APP",
    "HEADER_SIGN",
    "HISTORY_PATH",
    "OK",
    "PAID",
    "PAYMENT_PATH",
    "STATUS_EXTERNAL_PATH",
    "STATUS_PATH",
    "SUCCESS",
    "canonical",
    "serialise",
    "sign",
    "verify",
    "webhook_text",
]
