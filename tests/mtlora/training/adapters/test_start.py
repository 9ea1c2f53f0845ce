"""What a run says of a set that it cannot begin with."""

import json

from mtlora.training.adapters.start import other_channels
from testing.factories import adapter_spec


def test_other_channels_are_said() -> None:
    spec = adapter_spec()
    same = {"identity": json.dumps({"spec": spec.to_json()})}
    assert other_channels(same, spec) == ""
    assert other_channels({"identity": json.dumps({"kind": "pretraining"})}, spec) == ""
    wider = spec.model_copy(update={"decoder_channels": (16, 24, 40, 64)})
    own = ",".join(map(str, spec.decoder_channels))
    assert other_channels(same, wider) == (
        f": it was trained with --decoder-channels {own}, this run has 16,24,40,64; give the same"
    )
