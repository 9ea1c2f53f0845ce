"""Running adapter sets: forms in which a set is resident on a device, behind one interface."""

from mtlora.inference.backends.backend import Form, Query, Resident
from mtlora.inference.backends.choose import make_form
from mtlora.inference.backends.cpu import FoldedForm
from mtlora.inference.backends.reference import PlainForm
from mtlora.inference.prepare.needs import device_bytes, forward_bytes

__all__ = ["FoldedForm", "Form", "PlainForm", "Query", "Resident", "device_bytes", "forward_bytes", "make_form"]
