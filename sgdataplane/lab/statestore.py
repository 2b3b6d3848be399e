"""The applied state of a lab, kept as text beside its record."""

from __future__ import annotations

import base64
import pickle

from sgdataplane.model.state import CloudState


def encode_state(state: CloudState) -> str:
    return base64.b64encode(pickle.dumps(state)).decode()


def decode_state(text: str) -> CloudState:
    state: CloudState = pickle.loads(base64.b64decode(text))
    return state
