"""Faults that are injected: kills at drawn instants, full disks, dead servers, two at once (`pytest -m faults`)."""
