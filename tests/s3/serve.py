#!/usr/bin/env python3
"""A server that speaks S3, for tests: moto on loopback, which checks signatures and permissions, with one bucket.

    serve.py PORT ENV_FILE

Writes the environment of its users into ENV_FILE as `NAME=value` lines, then serves until it is interrupted. What is in
the bucket is in memory and goes with the process.
"""

import json
import logging
import signal
import sys
from io import BytesIO
from threading import Lock

from moto import settings
from moto.core import DEFAULT_ACCOUNT_ID
from moto.iam import iam_backends
from moto.moto_server.werkzeug_app import DomainDispatcherApplication, MotoRequestHandler, create_backend_app
from moto.s3 import s3_backends
from werkzeug.serving import run_simple

REGION = "us-east-1"
BUCKET = "millstream-test"


def user(name, actions):
    """Access key and secret of a new user who may do this."""
    iam = iam_backends[DEFAULT_ACCOUNT_ID]["aws"]
    iam.create_user(region_name=REGION, user_name=name)
    allow = {"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": actions, "Resource": "*"}]}
    iam.put_user_policy(name, "s3", json.dumps(allow))
    key = iam.create_access_key(user_name=name)
    return key.access_key_id, key.secret_access_key


class OneAtATime:
    """moto looks whether an object is there and stores it in two steps. S3 does that in one, and so does this."""

    def __init__(self, app):
        self.app, self.lock = app, Lock()

    def __call__(self, environ, start_response):
        # Read before, so that a client which sends slowly keeps nobody else waiting.
        length = int(environ.get("CONTENT_LENGTH") or 0)
        body = environ["wsgi.input"].read(length) if length else b""
        environ["wsgi.input"] = BytesIO(body)
        with self.lock:
            return list(self.app(environ, start_response))


def main():
    port, env_file = int(sys.argv[1]), sys.argv[2]
    # A shell lets what it starts in the background ignore interrupts.
    signal.signal(signal.SIGINT, lambda *_: sys.exit(0))
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    s3_backends[DEFAULT_ACCOUNT_ID]["aws"].create_bucket(BUCKET, REGION)
    key, secret = user("writer", ["s3:*"])
    reader_key, reader_secret = user("reader", ["s3:GetObject", "s3:ListBucket"])
    settings.INITIAL_NO_AUTH_ACTION_COUNT = 0
    with open(env_file, "w") as env:
        env.write(
            f"MILLSTREAM_TEST_S3=s3://{BUCKET}\n"
            f"MILLSTREAM_TEST_S3_READER={reader_key}:{reader_secret}\n"
            f"AWS_ENDPOINT_URL=http://127.0.0.1:{port}\n"
            f"AWS_REGION={REGION}\n"
            f"AWS_ACCESS_KEY_ID={key}\n"
            f"AWS_SECRET_ACCESS_KEY={secret}\n"
        )
    app = OneAtATime(DomainDispatcherApplication(create_backend_app))
    run_simple("127.0.0.1", port, app, threaded=True, request_handler=MotoRequestHandler)


if __name__ == "__main__":
    main()
