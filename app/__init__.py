"""The service: one frozen backbone, many adapter sets, HTTP. Imports `mtlora`; `mtlora` never imports it."""
