"""The gate at the source: a model leaves only if every tensor is one that its architecture demands.

Names, shapes and types are derived, never listed by the caller, so an optimizer's state, a memory bank or a table
per utterance has no name to leave under.
"""

import dataclasses
from collections.abc import Iterator, Mapping

import numpy as np
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from protocol import bundle, signing, trust, weights
from protocol.architecture import model_shapes
from protocol.errors import Code, Refused, Violation
from protocol.manifest import PAYLOAD_TYPE, Manifest, ManifestFields
from protocol.weights import Array
