"""Predicted speed on a board, from the graph alone: boards, kernels, roofline."""
