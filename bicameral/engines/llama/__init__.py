"""What the llama_cpp engine is made of: GGUF headers, checks, wire, tool calls, cores."""
