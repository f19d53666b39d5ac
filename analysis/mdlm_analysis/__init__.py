"""Reads what mdlm writes: plots of metrics, weights for and from other programs."""
