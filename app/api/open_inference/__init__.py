"""/v2: the Open Inference Protocol, version 2, all of it in one folder."""
