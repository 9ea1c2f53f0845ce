"""Running adapter sets: forms in which a set is resident on a device, behind one interface."""

from mtlora.inference.form import Form, Query, Resident
from mtlora.inference.plain import PlainForm

__all__ = ["Form", "PlainForm", "Query", "Resident"]
