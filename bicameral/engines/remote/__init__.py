"""What the remote engines share: connections, retries, the breaker, and how answers are read."""
