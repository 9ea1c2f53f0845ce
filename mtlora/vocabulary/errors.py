"""The tree of `mtlora`'s exceptions.

MTLoRAError
├── SpecError               a backbone, task or adapter description that cannot exist
├── TaskError               a task name nobody knows, or one that an adapter set lacks
├── BackboneError           backbone weights that cannot be read or are incomplete
├── AdapterFileError        a file that is not a valid adapter set (lists every problem)
│   └── AdapterMismatchError    a valid adapter set that belongs to another backbone
├── ConversionError         a published checkpoint that cannot be converted (lists every problem)
│   └── UnsafeCheckpointError   a checkpoint whose pickle asks for code outside the allow-list
├── ImageError              bytes or arrays that are not a usable photo (as such: truncated or corrupt)
│   ├── ImageFormatError        not an image of a known format
│   ├── ImageTooLargeError      more pixels than the limit
│   └── ImageTooCostlyError     far more work to read than a photo of its size
├── OutlineError            a mask with more sides than polygons are made of
├── DataError               a training dataset with problems (lists every problem)
├── TrainingError           a run that cannot start, resume or go on
├── OptionError             options of a command of which one would be ignored
└── RemoteError             a server could not be asked, or said no
    ├── UnreachableError        no connection: nothing was sent
    ├── LostAnswerError         sent, but no whole answer came: what it did is unknown
    ├── BadAnswerError          an answer that is not what the API says
    └── RefusedError            the server's problem document: status, kind, detail, errors; fit to be shown
"""

from collections.abc import Sequence


class MTLoRAError(Exception):
    """Root of everything `mtlora` raises on purpose."""


class ProblemsError(MTLoRAError):
    """An error with a list: `str()` shows all of it, `.problems` holds it line by line."""

    def __init__(self, summary: str, problems: Sequence[str] = ()) -> None:
        self.summary = summary
        self.problems: tuple[str, ...] = tuple(problems)
        super().__init__("\n  - ".join([summary + (":" if problems else ""), *problems]))


class SpecError(MTLoRAError, ValueError):
    """A description (backbone, task, adapter set) that cannot exist."""


class TaskError(MTLoRAError, ValueError):
    """A task name nobody knows, or a task that an adapter set does not have."""


class BackboneError(ProblemsError):
    """Backbone weights that cannot be read, or that lack or misshape tensors."""


class AdapterFileError(ProblemsError):
    """A file that is not a valid adapter set."""


class AdapterMismatchError(AdapterFileError):
    """A valid adapter set that was trained on another backbone."""


class ConversionError(ProblemsError):
    """A published checkpoint that cannot be converted."""


class UnsafeCheckpointError(ConversionError):
    """A checkpoint whose pickle asks for something outside the allow-list; nothing was run."""


class ImageError(MTLoRAError, ValueError):
    """Bytes or arrays that are not a usable photo."""


class ImageFormatError(ImageError):
    """Bytes that are no image of a known format."""


class ImageTooLargeError(ImageError):
    """An image with more pixels than the limit; it was not decoded."""


class ImageTooCostlyError(ImageError):
    """An image that is built to take far more time or memory than a photo of its size."""


class OutlineError(MTLoRAError):
    """A mask whose outline has more sides than polygons are made of."""


class DataError(ProblemsError):
    """A training dataset with problems."""


class TrainingError(MTLoRAError):
    """A training run that cannot start, resume or go on."""


class OptionError(MTLoRAError):
    """Options of a command of which one would be ignored because of the others."""


class RemoteError(MTLoRAError):
    """A server that could not be asked, or that said no."""


class UnreachableError(RemoteError):
    """No connection came about; nothing was sent."""


class LostAnswerError(RemoteError):
    """A request was sent and no whole answer came: whether it had an effect is unknown."""


class BadAnswerError(RemoteError):
    """An answer that is not what the API says, or beyond its limits: another server, or something in between."""


class RefusedError(RemoteError):
    """The server said no, in words; in these, characters that a terminal might obey are spelled out.

    status:        of HTTP
    kind:          last part of the problem's type, such as `queue-full`; empty if the answer was no problem document
    problems:      every fault, where there is a list
    request_id:    under which the server's log has it
    retry_after_s: when the server would be asked again; None if it did not say
    quota:         name of the quota that is used up; empty if it is not about one
    """

    def __init__(
        self,
        status: int,
        detail: str,
        *,
        kind: str = "",
        problems: Sequence[str] = (),
        request_id: str = "",
        retry_after_s: float | None = None,
        quota: str = "",
    ) -> None:
        self.status = status
        self.kind = kind
        self.detail = detail
        self.problems = tuple(problems)
        self.request_id = request_id
        self.retry_after_s = retry_after_s
        self.quota = quota
        lines = [f"{detail} ({status}{f', request {request_id}' if request_id else ''})", *self.problems]
        super().__init__("\n  - ".join(lines))
