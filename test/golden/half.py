"""Writes half.json beside this file: float64 numbers and the bits of the float16 that NumPy rounds them to (by way of float32)."""

import json
import pathlib

import numpy as np

least = 2.0**-24  # subnormal
numbers = [0.0, -0.0, 1.0, -2.0, 0.1, 1 / 3, 3.14159265, 65504.0, 65519.0, 65519.996, 65520.0, 1e6, -1e9]
numbers += [least, least / 2, least * 0.50001, least * 1.5, least * 2.5, least * 1022.5, least * 1023.5, -least * 0.75, 1e-10]
numbers += [2.0**-14, 2.0**-14 - least, 2.0**-14 * (1 + 2.0**-11)]
# Ties between neighbours, with an even and with an odd lower one, and the float32 numbers on both sides of each.
for exponent in (-14, -3, 0, 7, 15):
    for step in (0, 1, 2, 1021, 1022):
        tie = (1 + (step + 0.5) / 1024) * 2.0**exponent
        numbers += [tie, float(np.nextafter(np.float32(tie), np.float32(0))), float(np.nextafter(np.float32(tie), np.float32(1e9)))]
with np.errstate(over="ignore"):
    cases = [[n, int(np.float32(n).astype(np.float16).view(np.uint16))] for n in numbers]
(pathlib.Path(__file__).parent / "half.json").write_text(json.dumps(cases))
