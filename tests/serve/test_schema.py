"""The HTTP door against its own published schema, by schemathesis: it takes what it says, and gives what it says."""

import numpy as np
from answering import KEY, Oracle
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from schemathesis import openapi
from schemathesis.specs.openapi.checks import positive_data_acceptance

from graphdrl.oracle.pixels import to_base64
from serve.doors import make_app

_KEY_HEADER = {"Authorization": f"Bearer {KEY}"}
_IMAGE = to_base64(np.full((1, 8, 8, 3), 9, np.uint8))[0]

# A schema cannot say what an image file is. One size for all, as the door wants the images of a question.
openapi.format("image-file", st.just(_IMAGE))
openapi.format("image-data-url", st.just(f"data:image/png;base64,{_IMAGE}"))

_BESIDE_THE_SCHEMA = ("/rank", "/name")
"""Their lists have to be of one length, which no schema can say: what fits the schema alone may be refused here."""

schema = openapi.from_asgi("/openapi.json", make_app(Oracle(), KEY), headers=_KEY_HEADER)


@schema.parametrize()
@settings(max_examples=10, deadline=None, derandomize=True, database=None, suppress_health_check=list(HealthCheck))
def test_the_door_keeps_to_its_schema(case):
    left_out = [positive_data_acceptance] if case.path in _BESIDE_THE_SCHEMA else []
    case.call_and_validate(headers=_KEY_HEADER, excluded_checks=left_out)
