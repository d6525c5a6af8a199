"""`python -m bicameral` is `bicameral`."""

from bicameral.cli import main

main()
