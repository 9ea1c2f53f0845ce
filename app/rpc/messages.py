"""The protocol's messages, built when the module is imported from the numbers that the protocol gives to their fields.

They live in a pool of their own, so they never meet those of a client's library in the same process. What is nested in
the protocol's own text stands side by side here: names of messages are not sent.
"""

from typing import Any

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

SERVICE = "inference.GRPCInferenceService"
_PACKAGE = "inference"

# A line without a number begins a message. `one` marks the members of its one choice; `map` is from texts to messages.
_FIELDS = """
Empty
ServerLiveResponse
  1 bool live
ServerReadyResponse
  1 bool ready
NameAndVersion
  1 string name
  2 string version
ModelReadyResponse
  1 bool ready
ServerMetadataResponse
  1 string name
  2 string version
  3 repeated string extensions
TensorMetadata
  1 string name
  2 string datatype
  3 repeated int64 shape
ModelMetadataResponse
  1 string name
  2 repeated string versions
  3 string platform
  4 repeated TensorMetadata inputs
  5 repeated TensorMetadata outputs
InferParameter
  1 one bool bool_param
  2 one int64 int64_param
  3 one string string_param
  4 one double double_param
  5 one uint64 uint64_param
InferTensorContents
  1 repeated bool bool_contents
  2 repeated int32 int_contents
  3 repeated int64 int64_contents
  4 repeated uint32 uint_contents
  5 repeated uint64 uint64_contents
  6 repeated float fp32_contents
  7 repeated double fp64_contents
  8 repeated bytes bytes_contents
InferInputTensor
  1 string name
  2 string datatype
  3 repeated int64 shape
  4 map InferParameter parameters
  5 InferTensorContents contents
InferRequestedOutputTensor
  1 string name
  2 map InferParameter parameters
ModelInferRequest
  1 string model_name
  2 string model_version
  3 string id
  4 map InferParameter parameters
  5 repeated InferInputTensor inputs
  6 repeated InferRequestedOutputTensor outputs
  7 repeated bytes raw_input_contents
InferOutputTensor
  1 string name
  2 string datatype
  3 repeated int64 shape
ModelInferResponse
  1 string model_name
  2 string model_version
  3 string id
  5 repeated InferOutputTensor outputs
  6 repeated bytes raw_output_contents
InputConfig
  1 string name
  2 int32 data_type
  4 repeated int64 dims
OutputConfig
  1 string name
  2 int32 data_type
  3 repeated int64 dims
ModelConfig
  1 string name
  2 string platform
  4 int32 max_batch_size
  5 repeated InputConfig input
  6 repeated OutputConfig output
  17 string backend
ModelConfigResponse
  1 ModelConfig config
StatisticDuration
  1 uint64 count
  2 uint64 ns
InferStatistics
  1 StatisticDuration success
  2 StatisticDuration fail
  3 StatisticDuration queue
  4 StatisticDuration compute_input
  5 StatisticDuration compute_infer
  6 StatisticDuration compute_output
ModelStatistics
  1 string name
  2 string version
  3 uint64 last_inference
  4 uint64 inference_count
  5 uint64 execution_count
  6 InferStatistics inference_stats
ModelStatisticsResponse
  1 repeated ModelStatistics model_stats
RepositoryIndexRequest
  1 string repository_name
  2 bool ready
ModelIndex
  1 string name
  2 string version
  3 string state
  4 string reason
RepositoryIndexResponse
  1 repeated ModelIndex models
ModelRepositoryParameter
  1 one bool bool_param
  2 one int64 int64_param
  3 one string string_param
  4 one bytes bytes_param
RepositoryModelRequest
  1 string repository_name
  2 string model_name
  3 map ModelRepositoryParameter parameters
"""
CHOICE = "parameter_choice"
_TYPES = {
    kind: getattr(descriptor_pb2.FieldDescriptorProto, f"TYPE_{kind.upper()}")
    for kind in ("bool", "int32", "int64", "uint32", "uint64", "float", "double", "string", "bytes")
}


def _file() -> descriptor_pb2.FileDescriptorProto:
    file = descriptor_pb2.FileDescriptorProto(name="open_inference.proto", package=_PACKAGE, syntax="proto3")
    message = None
    for line in _FIELDS.strip().splitlines():
        if not line.startswith(" "):
            message = file.message_type.add(name=line)
        elif message is not None:
            number, *kinds, name = line.split()
            _add_field(message, int(number), kinds, name)
    return file


def _add_field(message: descriptor_pb2.DescriptorProto, number: int, kinds: list[str], name: str) -> None:
    field = message.field.add(name=name, number=number, label=descriptor_pb2.FieldDescriptorProto.LABEL_OPTIONAL)
    kind = kinds[-1]
    if "one" in kinds:
        if not message.oneof_decl:
            message.oneof_decl.add(name=CHOICE)
        field.oneof_index = 0
    if {"repeated", "map"} & set(kinds):
        field.label = descriptor_pb2.FieldDescriptorProto.LABEL_REPEATED
    if "map" in kinds:
        entry = message.nested_type.add(name=f"{name.capitalize()}Entry")
        entry.options.map_entry = True
        _add_field(entry, 1, ["string"], "key")
        _add_field(entry, 2, [kind], "value")
        kind = f"{message.name}.{entry.name}"
    if kind in _TYPES:
        field.type = _TYPES[kind]
    else:
        field.type, field.type_name = descriptor_pb2.FieldDescriptorProto.TYPE_MESSAGE, f".{_PACKAGE}.{kind}"


_pool = descriptor_pool.DescriptorPool()
_pool.Add(_file())


def message(name: str) -> Any:
    """The class of a message."""
    return message_factory.GetMessageClass(_pool.FindMessageTypeByName(f"{_PACKAGE}.{name}"))


def parameters_of(given: Any) -> dict[str, Any]:
    """Parameters as a JSON object has them; what chose nothing is null."""
    chosen = {name: value.WhichOneof(CHOICE) for name, value in given.items()}
    return {name: getattr(given[name], which) if which else None for name, which in chosen.items()}
