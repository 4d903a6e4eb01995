"""TensorRT, and TensorRT for RTX: prepared anywhere, built and proved on the device."""
