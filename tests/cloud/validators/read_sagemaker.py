"""Reads a program for SageMaker as its SDK does, up to the request; and holds that to botocore's model of the service.

    python read_sagemaker.py FILE

Nothing is sent: whatever the SDK would ask AWS, whether the role exists and where to upload to, is answered here.
"""

from __future__ import annotations

import runpy
import sys
from typing import Any


def refuse(*_: Any, **__: Any) -> None:
    raise RuntimeError("nothing is sent from here")


def main() -> None:
    import boto3
    import sagemaker.train.defaults as defaults
    from botocore.httpsession import URLLib3Session
    from botocore.validate import ParamValidator
    from sagemaker.core.helper.session_helper import Session

    URLLib3Session.send = refuse
    defaults.resolve_and_validate_role = lambda provided_role, **_: provided_role
    made = boto3.Session(region_name="eu-west-1", aws_access_key_id="none", aws_secret_access_key="none")
    session = Session(boto_session=made)
    session.default_bucket = lambda: "bucket"
    session.upload_data = lambda *_, **__: "s3://bucket/uploaded"
    request = runpy.run_path(sys.argv[1])["trainer"](session)._create_training_job_args(boto3=True)
    service = made.client("sagemaker").meta.service_model
    report = ParamValidator().validate(request, service.operation_model("CreateTrainingJob").input_shape)
    if report.has_errors():
        sys.exit(report.generate_report())
    assert request["CheckpointConfig"]["S3Uri"]
    print("ok")


main()
