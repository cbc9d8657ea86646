"""The gRPC services of the Open Inference Protocol, over an HTTP/2 of our own that is as small as gRPC lets it be."""
