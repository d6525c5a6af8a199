"""Spiking nets: their graph, NIR files, one meaning for all conventions, and how they are run."""
