"""Decoder processes: photos are decoded outside the server's process, by workers that can be lost.

`worker` and `confinement` are the workers' side and import neither torch nor anything else of the server.
"""
