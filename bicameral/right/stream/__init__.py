"""Streams: what looks all the time with something cheap, and wakes reasoning when it pays."""
