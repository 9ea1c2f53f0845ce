"""Our messages have the numbers and kinds that the protocol's other side knows."""

from typing import Any

import pytest
from google.protobuf import descriptor
from tritonclient.grpc import model_config_pb2, service_pb2

from app.rpc.calls import CALLS, DATA_TYPES
from app.rpc.messages import SERVICE, message, parameters_of

THEIRS = {
    "Empty": ["ServerLiveRequest", "ServerReadyRequest", "ServerMetadataRequest", "RepositoryModelLoadResponse",
              "RepositoryModelUnloadResponse"],
    "NameAndVersion": ["ModelReadyRequest", "ModelMetadataRequest", "ModelConfigRequest", "ModelStatisticsRequest"],
    "TensorMetadata": ["ModelMetadataResponse.TensorMetadata"],
    "InferInputTensor": ["ModelInferRequest.InferInputTensor"],
    "InferRequestedOutputTensor": ["ModelInferRequest.InferRequestedOutputTensor"],
    "InferOutputTensor": ["ModelInferResponse.InferOutputTensor"],
    "ModelIndex": ["RepositoryIndexResponse.ModelIndex"],
    "RepositoryModelRequest": ["RepositoryModelLoadRequest", "RepositoryModelUnloadRequest"],
    "InputConfig": ["ModelInput"],
    "OutputConfig": ["ModelOutput"],
}  # fmt: skip
"""Names of theirs that are not ours."""
NAMES = sorted(message("Empty").DESCRIPTOR.file.message_types_by_name)
INT32, ENUM = descriptor.FieldDescriptor.TYPE_INT32, descriptor.FieldDescriptor.TYPE_ENUM


def theirs(name: str) -> Any:
    first, *inner = name.split(".")
    for module in (service_pb2, model_config_pb2):
        found = module.DESCRIPTOR.message_types_by_name.get(first)
        if found is not None:
            return found.nested_types_by_name[inner[0]] if inner else found
    raise KeyError(name)


@pytest.mark.parametrize("name", NAMES)
def test_fields(name: str) -> None:
    for other in THEIRS.get(name, [name]):
        known = theirs(other).fields_by_number
        for field in message(name).DESCRIPTOR.fields:
            match = known[field.number]
            assert field.name == match.name
            assert field.type == match.type or (field.type == INT32 and match.type == ENUM)
            assert field.is_repeated == match.is_repeated
            assert (field.containing_oneof is None) == (match.containing_oneof is None)


def test_methods_and_numbers_of_types() -> None:
    service = service_pb2.DESCRIPTOR.services_by_name["GRPCInferenceService"]
    assert service.full_name == SERVICE
    assert set(CALLS) < {method.name for method in service.methods}
    assert {name: model_config_pb2.DataType.Value(name) for name in DATA_TYPES} == DATA_TYPES


def test_parameters_of_every_kind() -> None:
    given = service_pb2.ModelInferRequest()
    given.parameters["a"].bool_param = False
    given.parameters["b"].int64_param = -3
    given.parameters["c"].string_param = ""
    given.parameters["d"].double_param = 0.5
    given.parameters["e"].uint64_param = 2**63
    given.parameters["f"].SetInParent()
    ours = message("ModelInferRequest").FromString(given.SerializeToString())
    assert parameters_of(ours.parameters) == {"a": False, "b": -3, "c": "", "d": 0.5, "e": 2**63, "f": None}
