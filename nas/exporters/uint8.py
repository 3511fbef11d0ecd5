"""Inputs and outputs of INT8 models as unsigned bytes, which is what cameras give."""

from __future__ import annotations

from nas.exporters import litert
from nas.exporters.flatbuffer import pack, unpack


def with_uint8_ends(tflite: bytes) -> bytes:
    """Convert the INT8 inputs and outputs of a model to UINT8.

    uint8 = int8 + 128, with the same scale and 128 added to the zero point

    A QUANTIZE operation at each end converts, without loss; XNNPACK does not take these two.
    MediaPipe accepts UINT8 and float32 models only. A ZIP behind the model is left out: call
    `metadata.attach` afterwards.

    Args:
      tflite: Model with INT8 inputs and outputs.

    Returns:
      The model with UINT8 inputs and outputs of the same names.

    Raises:
      ValueError: An input or output is not INT8.
    """
    schema = litert.module("ai_edge_litert.schema_py_generated")
    model = unpack(tflite)
    graph = model.subgraphs[0]
    code = schema.OperatorCodeT(builtinCode=schema.BuiltinOperator.QUANTIZE, version=1)
    code.deprecatedBuiltinCode = code.builtinCode
    model.operatorCodes.append(code)

    def twin_of(number: int) -> int:
        tensor = graph.tensors[number]
        if tensor.type != schema.TensorType.INT8:
            dtype = next(k for k, v in vars(schema.TensorType).items() if v == tensor.type)
            raise ValueError(f"expected a model with INT8 inputs and outputs, got one of {dtype}")
        scale, zero = tensor.quantization.scale, tensor.quantization.zeroPoint
        twin = schema.TensorT(
            name=tensor.name,
            shape=tensor.shape,
            shapeSignature=tensor.shapeSignature,
            type=schema.TensorType.UINT8,
            buffer=len(model.buffers),
            quantization=schema.QuantizationParametersT(scale=scale, zeroPoint=zero + 128),
            hasRank=tensor.hasRank,
        )
        tensor.name += b"_int8"
        model.buffers.append(schema.BufferT())
        graph.tensors.append(twin)
        return len(graph.tensors) - 1

    def conversion(source: int, target: int) -> object:
        op = schema.OperatorT(opcodeIndex=len(model.operatorCodes) - 1)
        op.inputs, op.outputs = [source], [target]
        op.builtinOptionsType = schema.BuiltinOptions.QuantizeOptions
        op.builtinOptions = schema.QuantizeOptionsT()
        return op

    inputs = {int(number): twin_of(int(number)) for number in graph.inputs}
    outputs = {int(number): twin_of(int(number)) for number in graph.outputs}
    graph.operators = [
        *(conversion(twin, number) for number, twin in inputs.items()),
        *graph.operators,
        *(conversion(number, twin) for number, twin in outputs.items()),
    ]
    graph.inputs, graph.outputs = list(inputs.values()), list(outputs.values())
    for signature in model.signatureDefs or ():
        for ends, twins in ((signature.inputs, inputs), (signature.outputs, outputs)):
            for end in ends:
                end.tensorIndex = twins[end.tensorIndex]
    return pack(model)
