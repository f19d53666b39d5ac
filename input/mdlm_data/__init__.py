"""Text to the HDF5 files that mdlm reads: tokenized data, prompts, samples in another tokenizer's ids."""
