"""What OpenSTL publishes for Moving MNIST, ten frames to ten; used by bench/video.py.

From the MetaVP table of github.com/chengtan9907/OpenSTL at commit c74deb5; MSE, SSIM, PSNR after
200 epochs of 10,000 clips, and after 2000. Its test set is a file that is not here: what is scored
beside it is made anew by the same generator, of digits that training has not seen.
"""

from __future__ import annotations

SOURCE = "OpenSTL, commit c74deb5, Moving MNIST 10 to 10"
Three = tuple[float, float, float]
PUBLISHED: tuple[tuple[str, str, str, Three, Three], ...] = (
    ("ConvLSTM-S", "15.0 M", "56.8", (29.80, 0.9288, 22.10), (22.41, 0.9480, 23.54)),
    ("PredNet", "12.5 M", "8.6", (161.38, 0.7783, 14.33), (31.85, 0.9273, 21.85)),
    ("PhyDNet", "3.1 M", "15.3", (28.19, 0.9374, 22.62), (20.35, 0.9559, 24.21)),
    ("PredRNN", "23.8 M", "116", (23.97, 0.9462, 23.28), (26.43, 0.9411, 22.90)),
    ("PredRNN++", "38.6 M", "172", (22.06, 0.9509, 23.65), (14.07, 0.9698, 26.37)),
    ("MIM", "38.0 M", "179", (22.55, 0.9498, 23.56), (14.73, 0.9678, 25.99)),
    ("MAU", "4.5 M", "17.8", (26.86, 0.9398, 22.76), (22.25, 0.9511, 23.68)),
    ("E3D-LSTM", "51.0 M", "299", (35.97, 0.9320, 21.11), (24.07, 0.9436, 23.19)),
    ("PredRNN.V2", "23.9 M", "117", (24.13, 0.9453, 23.21), (17.26, 0.9624, 25.01)),
    ("SimVP (IncepU)", "58.0 M", "19.4", (32.15, 0.9268, 21.84), (21.15, 0.9536, 23.99)),
    ("SimVPv2 (gSTA)", "46.8 M", "16.5", (26.69, 0.9402, 22.78), (15.05, 0.9675, 25.97)),
    ("TAU", "44.7 M", "16.0", (24.60, 0.9454, 23.19), (15.69, 0.9661, 25.71)),
    ("SimVP-ViT", "46.1 M", "16.9", (35.15, 0.9139, 21.67), (19.74, 0.9539, 24.59)),
    ("SimVP-Swin", "46.1 M", "16.4", (29.70, 0.9331, 22.22), (19.11, 0.9584, 24.53)),
    ("ConvMixer", "3.9 M", "5.5", (32.09, 0.9259, 21.93), (22.30, 0.9507, 23.73)),
)
