"""The Decision Transformer (Chen et al. 2021, arXiv:2106.01345)."""
