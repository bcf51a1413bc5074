"""Each step of the workflow as a Python function; ``pspnet_edge`` itself offers them all, loaded when first used."""
