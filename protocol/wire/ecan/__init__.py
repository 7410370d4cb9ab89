"""Messages by package and version, where protobuf expects them."""
