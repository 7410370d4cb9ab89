"""Hold the messages by package and version, as protobuf expects them."""
