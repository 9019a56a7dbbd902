"""Writes pickled_zip.pt and pickled_legacy.pt beside this file: what torch.save writes now and what it wrote before 1.6."""

import pathlib

import torch

HERE = pathlib.Path(__file__).parent
state = {"encoder.conv1.weight": torch.arange(6.0).reshape(1, 1, 2, 3)}
torch.save({"model_state": state}, HERE / "pickled_zip.pt")
torch.save(state, HERE / "pickled_legacy.pt", _use_new_zipfile_serialization=False)
