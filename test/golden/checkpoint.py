"""Writes checkpoint.safetensors with the reference implementation: one tensor of each type that lacuna reads."""

from pathlib import Path

import torch
from safetensors.torch import save_file

ramp = torch.arange(6).reshape(2, 3)
tensors = {
    "f64": ramp.double() / 3,
    "f32": ramp.float() / 3,
    "f16": ramp.half() / 3,
    "bf16": ramp.bfloat16() / 3,
    "i64": ramp.long() * -(2**50),
    "i32": ramp.int() * -(2**28),
    "u32": (ramp * 2**29).to(torch.uint32),
    "i16": ramp.short() * -1000,
    "u16": (ramp * 13000).to(torch.uint16),
    "i8": ramp.to(torch.int8) * -25,
    "u8": ramp.to(torch.uint8) * 51,
    "bool": ramp % 2 == 1,
    "scalar": torch.tensor(1.5),
    "empty": torch.zeros(0, 3),
    "__proto__": torch.ones(1),
    "schlüssel \"☃\" \\ 😀": torch.ones(1) * 2,
}
save_file(tensors, Path(__file__).parent / "checkpoint.safetensors", metadata={"epoch": "3", "größe": "a\nb"})
