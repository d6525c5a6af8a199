"""The data path between processes: arrays are handed over where they lie, not copied.

`tensor` is a handle, `pool` the shared memory it points into, `link` the typed edges between two
processes on one host or on two. numpy is imported only where an array is asked for.
"""
