"""What each version of TensorRT takes, as far as our graphs touch it: data for the lint.

The rules that all versions share are in `lint`. Sources: NVIDIA's support matrices and release
notes; what RTX accepts was tried with version 1.7.
"""

from __future__ import annotations

from dataclasses import dataclass

from tcn_export.targets.tensorrt.probe import RTX, version_numbers


@dataclass(frozen=True, slots=True)
class Version:
    """One line of TensorRT.

    Attributes:
        name: As the option ``--trt-version`` spells it.
        found_in: Where it comes from, for messages.
        newest_opset: The newest ONNX operator set that its parser knows.
        dla: What its support of the deep learning accelerator needs; None where it has none.
        explicit_int8_on_dla: Whether the accelerator takes Q/DQ nodes.
    """

    name: str
    found_in: str
    newest_opset: int
    dla: str | None = None
    explicit_int8_on_dla: bool = False


VERSIONS: dict[str, Version] = {
    version.name: version
    for version in (
        Version("10.3", "JetPack 6.1 and 6.2", 20, dla="Orin NX or AGX Orin"),
        # 10.7 was the last release of the 10 line with an accelerator.
        Version("10.16", "JetPack 7.2", 24),
        Version(
            "11",
            "desktop GPUs, and JetPack 7.2.2",
            25,
            dla="TensorRT 11.4.1 or newer on an AGX Orin",
            explicit_int8_on_dla=True,
        ),
        Version("rtx", "TensorRT for RTX", 26),
    )
}


def version_name(module: str, version: str) -> str:
    """The key of `VERSIONS` for an installed library.

    >>> version_name("tensorrt", "10.13.2.6")
    '10.3'
    """
    if module == RTX:
        return "rtx"
    numbers = version_numbers(version)
    if numbers >= (11,):
        return "11"
    return "10.16" if numbers >= (10, 16) else "10.3"
