"""The tree of the service's exceptions. Only `app/api/errors.py` decides what each means in HTTP.

ServiceError
├── RequestError                what the client sent cannot be used
│   ├── BadBodyError                JSON, base64 or multipart that cannot be parsed
│   ├── BadParameterError           a query parameter, header or task that makes no sense
│   ├── ParameterConflictError      a parameter with two values, in one place or in two
│   ├── EmptyBodyError              no image, no file, or nothing at all
│   ├── BodyTooLargeError           more bytes than the limit
│   ├── BodyTooSlowError            the body did not arrive in time
│   ├── UnsupportedMediaError       a kind of body that is not understood
│   ├── NotAcceptableError          an answer that cannot be given in the form asked for
│   ├── RangeNotSatisfiableError    a part of a file that it does not have
│   ├── TooManyPixelsError          a photo larger than the limit
│   ├── ImageTooCostlyError         a photo that takes far more work than its size
│   └── BadImageError               a truncated or corrupt photo
├── AccessError
│   ├── UnauthorizedError           no key, or one nobody knows
│   └── ForbiddenError              a key without the scope
├── AdapterError
│   ├── AdapterNotFoundError        no such adapter set or revision
│   ├── AdapterConflictError        a change that the set's role forbids (default, bundled, current)
│   ├── AdapterRefusedError         an upload that is not a valid set for this backbone (lists every problem)
│   ├── AdapterLoadError            a known set that could not be brought into memory
│   └── StoreFullError              no room on the disk or within the quota
├── BusyError                       try again later; carries `retry_after_s`
│   ├── BodyMemoryError             the bodies being read take all the memory that they may
│   ├── QuotaError                  what the key may use is used up
│   ├── QueueFullError              as many images as allowed are waiting
│   ├── WaitTooLongError            the turn would come too late
│   ├── DeviceMemoryError           no memory for the forward pass of this image, even alone
│   ├── StoreUnavailableError       the store of adapter sets is locked, does not answer, or is gone
│   └── NotReadyError               starting or draining
├── DeadlineError                   the client's deadline passed
├── ClientGoneError                 the client left; nobody reads the answer
├── InferenceError                  the model failed on this item
├── NonFiniteOutputError            the adapter set's outputs on this item are NaN, infinite, or absurdly large
└── StartupError                    the server cannot start as it was asked to
    ├── KeyFileError                    the key file is missing, unsafe, or none
    ├── ConfigFileError                 the configuration file is missing, or none
    ├── SettingError                    a setting names what is not there or cannot be used; carries its name
    └── DeviceError                     the device is there as far as its driver says, and yet cannot be used
"""

from collections.abc import Sequence


class ServiceError(Exception):
    """Root of everything the service raises on purpose; `problems` is the list behind the sentence."""

    def __init__(self, detail: str, problems: Sequence[str] = ()) -> None:
        self.detail = detail
        self.problems = tuple(problems)
        super().__init__(detail)


class RequestError(ServiceError):
    """What the client sent cannot be used."""


class BadBodyError(RequestError):
    """JSON, base64 or multipart that cannot be parsed."""


class BadParameterError(RequestError):
    """A query parameter, header or task that makes no sense."""


class ParameterConflictError(RequestError):
    """A parameter with two values, in one place or in two: nobody can tell which one is meant."""


class EmptyBodyError(RequestError):
    """No image, no file, or nothing at all."""


class BodyTooLargeError(RequestError):
    """More bytes than the limit."""


class BodyTooSlowError(RequestError):
    """The body did not arrive in time."""


class UnsupportedMediaError(RequestError):
    """A kind of body, or bytes, that are not understood."""


class NotAcceptableError(RequestError):
    """An answer that cannot be given in the form asked for."""


class RangeNotSatisfiableError(RequestError):
    """A part of a file that it does not have; `size` is how many bytes it has."""

    def __init__(self, detail: str, size: int = 0) -> None:
        self.size = size
        super().__init__(detail)


class TooManyPixelsError(RequestError):
    """A photo larger than the limit, refused before it is decoded."""


class ImageTooCostlyError(RequestError):
    """A photo that takes far more work than one of its size."""


class BadImageError(RequestError):
    """A truncated or corrupt photo."""


class AccessError(ServiceError):
    """The caller may not do this."""


class UnauthorizedError(AccessError):
    """No key, or one nobody knows."""


class ForbiddenError(AccessError):
    """A key without the scope."""


class AdapterError(ServiceError):
    """Something about an adapter set."""


class AdapterNotFoundError(AdapterError):
    """No such adapter set, or no such revision of it."""


class AdapterConflictError(AdapterError):
    """A change that the set's role forbids: default, bundled, or current."""


class AdapterRefusedError(AdapterError):
    """An upload that is not a valid adapter set for this backbone."""


class AdapterLoadError(AdapterError):
    """A known adapter set that could not be brought into memory."""

    def __init__(self, detail: str, retry_after_s: float = 10.0) -> None:
        self.retry_after_s = retry_after_s
        super().__init__(detail)


class StoreFullError(AdapterError):
    """No room for another adapter file: disk full or quota reached."""


class BusyError(ServiceError):
    """Not now; `retry_after_s` says when to try again."""

    def __init__(self, detail: str, retry_after_s: float = 1.0, problems: Sequence[str] = ()) -> None:
        self.retry_after_s = retry_after_s
        super().__init__(detail, problems)


class QueueFullError(BusyError):
    """As many images as allowed are waiting."""


class WaitTooLongError(BusyError):
    """The turn would come after the deadline, or later than the server lets anyone wait."""


class BodyMemoryError(BusyError):
    """The bodies of all predictions together take as much memory as they may."""


class QuotaError(BusyError):
    """What the key may use of something is used up; says of what, how much, and how much is in use."""

    def __init__(
        self, detail: str, retry_after_s: float = 60.0, *, name: str = "", limit: int = 0, usage: int = 0
    ) -> None:
        self.name = name
        self.limit = limit
        self.usage = usage
        super().__init__(detail, retry_after_s)


class DeviceMemoryError(BusyError):
    """No memory for the forward pass of this image, even alone."""


class StoreUnavailableError(BusyError):
    """The store of adapter sets is locked by another process, does not answer, or is gone; sets in memory go on.

    state, lasting_s: what is so, and for how long already, where that is known; `detail` says both and more
    """

    def __init__(self, state: str, lasting_s: float | None = None, more: str = "", retry_after_s: float = 5.0) -> None:
        self.state = state
        self.lasting_s = lasting_s
        super().__init__((state if lasting_s is None else lasting(state, lasting_s)) + more, retry_after_s)


class NotReadyError(BusyError):
    """Starting or draining."""


class DeadlineError(ServiceError):
    """The client's deadline passed before the answer was there."""


class ClientGoneError(ServiceError):
    """The client closed the connection; its work is dropped."""


class InferenceError(ServiceError):
    """The model failed on this item; its neighbours were answered."""


class NonFiniteOutputError(ServiceError):
    """The adapter set, valid as a file, computes NaN, infinite or absurdly large numbers on this item."""


class StartupError(ServiceError):
    """The server cannot start as it was asked to."""


class KeyFileError(StartupError):
    """The key file is missing, unsafe, or not a key file."""


class ConfigFileError(StartupError):
    """The configuration file is missing, or not one (lists every fault)."""


class SettingError(StartupError):
    """A setting names a file, folder, port or device that is not there or cannot be used."""

    def __init__(self, detail: str, *, setting: str = "") -> None:
        self.setting = setting
        super().__init__(detail)


class DeviceError(StartupError):
    """The device cannot be used just now; another start may find it well."""


def lasting(state: str, seconds: float) -> str:
    """What is so, and for how long."""
    return f"{state} for {seconds:.0f} s" if seconds >= 10 else f"{state} for {seconds:.2g} s"
