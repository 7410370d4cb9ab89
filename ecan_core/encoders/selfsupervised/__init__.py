"""Hear by an encoder that a site adds: wav2vec 2.0, HuBERT or WavLM."""
