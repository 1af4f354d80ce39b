"""Augmented temporal contrast (Stooke et al. 2021, arXiv:2009.08319): encoders from observations alone."""
