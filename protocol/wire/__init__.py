"""The gRPC service that hands a bundle over: messages, limits, refusals and mutually pinned channels.

Whatever speaks gRPC imports it after this package, so the library's own log, which would print addresses and
paths on stderr, is silenced in this one place.
"""

import os

os.environ.setdefault("GRPC_VERBOSITY", "NONE")
