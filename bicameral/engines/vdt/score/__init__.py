"""How good clips are: to a viewer's eye, by the laws of motion, and beside what costs nothing."""
