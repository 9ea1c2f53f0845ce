"""Label Studio's ML backend: adapter sets that label photos there before people do. Off unless a setting says so."""
