"""The Open Inference Protocol over gRPC: each call is asked of the HTTP application within the process."""
