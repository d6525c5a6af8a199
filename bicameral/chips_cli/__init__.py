"""The commands about chips: what is here, what it can do, what should run where."""
