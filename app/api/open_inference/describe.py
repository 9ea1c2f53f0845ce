"""Adapter sets as models: versions, inputs, outputs."""

from app.access.keys import Caller
from app.answers.oip_tensors import channels, datatype
from app.api.open_inference.schemas import IMAGE_INPUT, ModelV2Out, TensorSpecOut
from app.composition.parts import Parts
from app.core.names import plain_name

ANY = -1


async def describe(reference: str, caller: Caller, parts: Parts) -> ModelV2Out:
    """The model that a reference means; `AdapterNotFoundError` if the caller can see none."""
    ref = await parts.lookup.resolve(reference, caller.namespace)
    tasks = (await parts.lookup.manifest(ref)).spec.task_names
    image = TensorSpecOut(name=IMAGE_INPUT, datatype="BYTES", shape=[ANY])
    outputs = [
        TensorSpecOut(name=task.value, datatype=datatype(task), shape=[ANY, ANY, ANY, *channels(task)])
        for task in tasks
    ]
    versions = [str(revision.revision) for revision in (await parts.lookup.entry(ref.name)).state.revisions]
    return ModelV2Out(name=plain_name(ref.name), versions=versions, platform="mtlora", inputs=[image], outputs=outputs)
