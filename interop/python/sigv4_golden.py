"""Writes crates/core/src/sasl/golden/sigv4.tsv: what botocore, Amazon's own implementation, signs for the same input.

    pip install botocore && python3 interop/python/sigv4_golden.py > crates/core/src/sasl/golden/sigv4.tsv

The first part are requests with signed headers, after Amazon's SigV4 test suite; the second part are presigned URLs as
MSK's clients send them (aws-msk-iam-auth, aws-msk-iam-sasl-signer).
"""

import datetime
from unittest import mock

import botocore.auth
from botocore.auth import SigV4Auth, SigV4QueryAuth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

KEY, SECRET = "AKIDEXAMPLE", "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY"
TOKEN = "IQoJb3JpZ2luX2VjEFQ/+aXJ=="


def at(time):
    fixed = datetime.datetime.fromtimestamp(time, datetime.timezone.utc)
    return mock.patch.object(botocore.auth, "get_current_datetime", lambda remove_tzinfo=True: fixed.replace(tzinfo=None))


def signed(method, path, query):
    """The signature of a request of the test suite, which has the headers host and x-amz-date."""
    with at(1440938160):
        request = AWSRequest(method=method, url="https://example.amazonaws.com" + path + query)
        SigV4Auth(Credentials(KEY, SECRET), "service", "us-east-1").add_auth(request)
        return request.headers["Authorization"].rsplit("=", 1)[1]


def presigned(host, region, time, token, expires):
    with at(time):
        request = AWSRequest(method="GET", url=f"https://{host}/", params={"Action": "kafka-cluster:Connect"})
        SigV4QueryAuth(Credentials(KEY, SECRET, token or None), "kafka-cluster", region, expires=expires).add_auth(request)
        return request.prepare().url


def token_url(region, time, user_agent):
    """As aws_msk_iam_sasl_signer's __construct_auth_token, with a fixed time."""
    with at(time):
        request = AWSRequest(
            method="GET", url=f"https://kafka.{region}.amazonaws.com/", params={"Action": "kafka-cluster:Connect"}
        )
        SigV4QueryAuth(Credentials(KEY, SECRET, TOKEN), "kafka-cluster", region, expires=900).add_auth(request)
        request.params = {"User-Agent": user_agent}
        return request.prepare().url


print("# Written by interop/python/sigv4_golden.py. signed: method, path, query, signature.")
for method, path, query in [
    ("GET", "/", ""),
    ("POST", "/", ""),
    ("GET", "/", "?Param2=value2&Param1=value1"),
    ("GET", "/", "?-._~0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz=x"),
    ("GET", "/", "?%E1%88%B4=bar"),
]:
    print("signed", method, path, query.lstrip("?"), signed(method, path, query), sep="\t")
print("# msk: what MSK's client for Java signs for this host at 1764392400; the signature.")
url = presigned("b-1.demo.c2.kafka.eu-west-1.amazonaws.com", "eu-west-1", 1764392400, "", 900)
print("msk", url.rsplit("=", 1)[1], sep="\t")
print("# token: the URL in a token of aws-msk-iam-sasl-signer-python, which adds a parameter to the signed request.")
print("token", token_url("eu-west-1", 1764392400, 'milena/"0"'), sep="\t")
print("# presigned: host, region, seconds since 1970, session token, seconds it is valid, URL.")
for host, region, time, token, expires in [
    ("b-1.demo.abc123.c2.kafka.eu-west-1.amazonaws.com", "eu-west-1", 1764392400, "", 900),
    ("b-1.demo.abc123.c2.kafka.eu-west-1.amazonaws.com", "eu-west-1", 1764392400, TOKEN, 900),
    ("boot-x.c1.kafka-serverless.us-gov-east-1.amazonaws.com", "us-gov-east-1", 951782400, "", 900),
    ("b-2.x.kafka.cn-north-1.amazonaws.com.cn", "cn-north-1", 4107542399, TOKEN, 300),
    ("kafka.ap-southeast-2.amazonaws.com", "ap-southeast-2", 1709164799, "", 900),
    ("localhost", "us-east-1", 0, TOKEN, 900),
]:
    print("presigned", host, region, time, token, expires, presigned(host, region, time, token, expires), sep="\t")
