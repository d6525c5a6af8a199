"""Starts servers as child processes by recipe, watches over them, and ends them without a trace."""
