"""The HTTP service: one frozen backbone, many adapter sets. It imports `mtlora`; `mtlora` never imports it."""
