"""The networks that the CUDA targets are held to: each whole, and small for tests on a CPU."""

from __future__ import annotations

import importlib
from dataclasses import dataclass

from examples.models.seeded import Made


@dataclass(frozen=True, slots=True)
class Network:
    """`title` as in the documentation; `whole` and `small`: "module:function" in examples.models."""

    title: str
    whole: str
    small: str

    def make(self, small: bool = False) -> Made:
        """(module in eval mode, example inputs), from PyTorch alone."""
        module, _, function = (self.small if small else self.whole).partition(":")
        made: Made = getattr(importlib.import_module(f"examples.models.{module}"), function)()
        return made


def _network(title: str, module: str, whole: str = "factory", small: str = "small") -> Network:
    return Network(title, f"{module}:{whole}", f"{module}:{small}")


NETWORKS: dict[str, Network] = {
    "resnet50": _network("ResNet-50", "resnet50"),
    "mobilenet_v2": _network("MobileNetV2", "mobilenet_v2", "damped", "damped_small"),
    "efficientnet_b0": _network("EfficientNet-B0", "efficientnet_b0"),
    "convnext_t": _network("ConvNeXt-T", "convnext_t"),
    "efficientvit_b1": _network("EfficientViT-B1-like", "efficientvit_b1"),
    "vit_b16": _network("ViT-B/16", "vit_b16"),
    "swin_t": _network("Swin-T", "swin_t"),
    "segformer_b0": _network("SegFormer-B0", "segformer_b0"),
    "yolo_like": _network("YOLO-like detector", "yolo_like"),
    "minilm": _network("MiniLM-L6", "bert", "minilm"),
    "bert_base": _network("BERT-base", "bert", "base"),
    "whisper_tiny": _network("Whisper-tiny encoder", "whisper_encoder"),
    "vla_policy": _network("pi0-like policy", "vla_policy"),
}
CNNS = ("resnet50", "mobilenet_v2", "efficientnet_b0", "yolo_like")
