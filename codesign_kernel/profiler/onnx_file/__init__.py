"""ONNX files: their structure read without their weights, and run on torch's meta device to see what they compute."""

from codesign_kernel.profiler.onnx_file.run import trace_onnx

__all__ = ["trace_onnx"]
