"""The JSON documents of tasks."""

from pydantic import BaseModel, Field


class TaskInfoOut(BaseModel):
    """One task the server knows."""

    name: str
    aliases: list[str]
    decode: str = Field(description="argmax: class map; sigmoid: 0..1; unit_vector: normals; identity: as is")
    encoding: str = Field(description="of its PNG")
    adapters: list[str] = Field(description="adapter sets whose current revision has it")


class TaskListOut(BaseModel):
    """Every task."""

    tasks: list[TaskInfoOut]
