"""Photos decoded outside the server's process: workers that can be lost, and what they may cost.

`worker` and `confinement` are the workers' side and import neither torch nor anything else of the server.
"""
