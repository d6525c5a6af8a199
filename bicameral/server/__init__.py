"""The outside world over HTTP."""
