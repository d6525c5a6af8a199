"""What the llama_cpp engine is made of: the GGUF header, its checks and wire, the cores it lends."""
