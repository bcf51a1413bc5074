"""Checkpoints of other projects, turned into ours exactly.

files        read without running anything that a file asks for
weights      the tensors of a checkpoint, and which of them have been used
layout       what a format says about itself, and the network that its tensors describe
semseg mmseg smp paddleseg      one format each
classes      names, and the order of the classes
importer     all of it together
"""
