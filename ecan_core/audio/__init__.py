"""From an audio file to numbers: decoding, log-mel spectrum, prosody, utterance statistics."""
