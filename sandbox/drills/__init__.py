"""Drills: deploy a fault to a sandbox of its own, see who catches it, and how the service ends."""
