"""HTTP below the routes: connections, heads, bodies and parameters, all of them bounded."""
