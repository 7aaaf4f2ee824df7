"""Gatherers: what several checks look at is observed once per run through `world.facts.once`."""
