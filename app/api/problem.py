"""RFC 9457 problem details: the body of every error."""

from typing import Any

from pydantic import BaseModel, ConfigDict, Field

PROBLEM_MEDIA_TYPE = "application/problem+json"


class ProblemItem(BaseModel):
    """One of several faults."""

    detail: str
    where: str | None = Field(default=None, description="the parameter or field, where there is one")


class QuotaUse(BaseModel):
    """The quota of the API key that a 429 is about."""

    name: str = Field(description="requests_per_minute, max_sets or max_bytes")
    limit: int
    usage: int


class Problem(BaseModel):
    """What went wrong."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "type": "urn:mtlora:problem:adapter-not-found",
                    "title": "Adapter not found",
                    "status": 404,
                    "detail": "no adapter set 'cats'",
                    "request_id": "5f0c2f6b7b1e4f0f9a53f6f7d5a4b6c1",
                }
            ]
        }
    )

    type: str = Field(description="urn:mtlora:problem:… , stable, meant for programs")
    title: str
    status: int
    detail: str
    request_id: str
    errors: list[ProblemItem] | None = None
    quota: QuotaUse | None = None

    @property
    def kind(self) -> str:
        """The last part of its type."""
        return self.type.rpartition(":")[2]

    def document(self) -> dict[str, Any]:
        """As JSON, without what is not there."""
        return self.model_dump(exclude_none=True)


def problem_responses(*codes: int) -> dict[int | str, dict[str, Any]]:
    """Documentation of error answers for a route."""
    schema = {"$ref": "#/components/schemas/Problem"}
    return {
        code: {"description": PROBLEMS[code], "content": {PROBLEM_MEDIA_TYPE: {"schema": schema}}} for code in codes
    }


PROBLEMS = {
    400: "The body cannot be parsed.",
    401: "No key, or an unknown one.",
    403: "The key lacks the scope.",
    404: "No such adapter set or revision.",
    405: "The path does not know this method.",
    406: "The answer cannot be given in the form asked for.",
    408: "The body did not arrive in time.",
    409: "The role of the adapter set forbids the change.",
    413: "Too many bytes or pixels.",
    415: "The body, or the image in it, is of a kind that is not understood.",
    416: "The file has no such range.",
    422: "Well-formed, but it makes no sense; `errors` lists why.",
    429: "Too much at once, or a quota of the API key is used up; see Retry-After.",
    431: "The head of the request is too large.",
    500: "The server failed.",
    503: "Starting, draining, out of device memory, or the adapter set cannot be loaded now; see Retry-After.",
    504: "The deadline passed.",
    507: "No room for another adapter file.",
}
