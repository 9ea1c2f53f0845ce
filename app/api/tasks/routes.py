"""The handler of GET /tasks."""

from typing import Annotated

from fastapi import APIRouter

from app.access.keys import Caller, Scope
from app.api.dependencies import PartsDep, require
from app.api.problem import problem_responses
from app.api.tasks.schemas import TaskInfoOut, TaskListOut
from app.core.names import plain_name
from mtlora.maps.map_png import ENCODINGS
from mtlora.vocabulary.tasks import TRAITS

router = APIRouter(tags=["predict"])


@router.get("/tasks", responses=problem_responses(400, 401, 403, 422, 429, 503))
async def list_tasks(caller: Annotated[Caller, require(Scope.ADAPTERS_READ)], parts: PartsDep) -> TaskListOut:
    """Every task, and the adapter sets that have it."""
    sets = await parts.adapters.list(caller)
    return TaskListOut(
        tasks=[
            TaskInfoOut(
                name=task.value,
                aliases=list(traits.aliases),
                decode=traits.decode.value,
                encoding=ENCODINGS[task],
                adapters=[
                    plain_name(found.entry.state.name)
                    for found in sets
                    if found.current is not None and task in found.current.spec.task_names
                ],
            )
            for task, traits in TRAITS.items()
        ]
    )
