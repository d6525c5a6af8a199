"""Members on other machines: Ray places them, and they answer as they would here.

Ray Serve is not used: its own HTTP server, router and replica pool would stand beside ours, count
again what the ledger counts, and hold a stream in places that a hang-up would have to pass.
"""
