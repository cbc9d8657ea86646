"""Runs in the environment of Amazon's tools: calls boto3 as told by JSON lines, answers with JSON lines.

A line `{"operation": "describe_accelerators", "arguments": {...}, "paginate": false}` is answered by
`{"answer": ...}` or `{"error": {"code", "status", "message", "class"}}`.
"""

import json
import sys

import boto3
from botocore.config import Config
from botocore.exceptions import ClientError


def main() -> None:
    config = Config(retries={"max_attempts": 1}, parameter_validation="--no-validation" not in sys.argv)
    client = boto3.client("elastic-inference", endpoint_url=sys.argv[1], config=config)
    for line in sys.stdin:
        told = json.loads(line)
        try:
            if told.get("paginate"):
                pages = client.get_paginator(told["operation"]).paginate(**told["arguments"])
                answer = [page["acceleratorSet"] for page in pages]
            else:
                answer = getattr(client, told["operation"])(**told["arguments"])
                answer.pop("ResponseMetadata")
            print(json.dumps({"answer": answer}), flush=True)
        except ClientError as error:
            told = {
                "code": error.response["Error"]["Code"],
                "status": error.response["ResponseMetadata"]["HTTPStatusCode"],
                "message": error.response["Error"]["Message"],
                "class": type(error).__name__,
            }
            print(json.dumps({"error": told}), flush=True)


main()
