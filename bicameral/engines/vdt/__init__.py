"""Video by a diffusion transformer with unified masks: VDT (Lu et al., arXiv 2305.13311, ICLR 2024).

One net and one checkpoint predict, go back, interpolate, complete, animate a picture, and dream.
Written from the paper's description; nothing of the authors' code, which is not free, is in it.
"""
