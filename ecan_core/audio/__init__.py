"""Turn audio files into numbers.

Decoding, log-mel spectrum, prosody and utterance statistics live here.
"""
