"""Running adapter sets: forms in which a set is resident on a device, behind one interface."""

from mtlora.inference.choose import make_form
from mtlora.inference.folded import FoldedForm
from mtlora.inference.form import Form, Query, Resident
from mtlora.inference.needs import device_bytes, forward_bytes
from mtlora.inference.plain import PlainForm

__all__ = ["FoldedForm", "Form", "PlainForm", "Query", "Resident", "device_bytes", "forward_bytes", "make_form"]
