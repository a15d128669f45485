"""ONNX: trained models and backbones exported, and run by onnxruntime without torch."""
