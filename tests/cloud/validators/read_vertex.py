"""Reads a CustomJob as google-cloud-aiplatform does: its protocol buffers refuse fields that they do not have.

python vertex.py FILE
"""

from __future__ import annotations

import sys
from pathlib import Path

import yaml
from google.cloud.aiplatform_v1.types import CustomJobSpec
from google.protobuf.json_format import ParseDict

spec = CustomJobSpec()
ParseDict(yaml.safe_load(Path(sys.argv[1]).read_text(encoding="utf-8")), CustomJobSpec.pb(spec))
assert spec.worker_pool_specs[0].container_spec.image_uri
print("ok")
