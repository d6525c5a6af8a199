"""What chips can do: their catalogue, a model of how fast they serve, and where to put what."""
