"""Reasoning: minds that decide whom to ask, and join what they say."""
