"""Secrets in addresses and parameters do not get through; everything else does."""

import pytest

from rhs.config.redact import redacted, without_secrets


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("https://me:pass@host:5000/x", "https://***@host:5000/x"),
        ("https://token@host", "https://***@host"),
        ("https://me:p@ss@host/x@y", "https://***@host/x@y"),
        ("s3://bucket/a?X-Amz-Signature=1&b=2", "s3://bucket/a?***"),
        ("https://host/x#access_token=1", "https://host/x#***"),
        ("postgresql+psycopg2://u:p@db/mlflow", "postgresql+psycopg2://***@db/mlflow"),
        ("at https://a:b@c/d (and 'http://e/f?g=h')", "at https://***@c/d (and 'http://e/f?***')"),
        ("https://host:5000/x", "https://host:5000/x"),
        ("s3://AKIA:wo/rd@bucket/x", "s3://***@bucket/x"),
        ("mysql://u:p/w@db/x", "mysql://***@db/x"),
        ("https://u:p w@h", "https://***@h"),
        ("https://u:p?w@h", "https://***@h"),
        ("https://u:p#w@x@h/y", "https://***@h/y"),
        ("https://u:1p/w@h and http://u:2/p w@i", "https://***@h and http://u:2/p w@i"),
        ("http://host:80/x@y or http://host:80?", "http://host:80/x@y or http://host:80?***"),
        ("http://127.0.0.1:5000 is away, ask me@x", "http://127.0.0.1:5000 is away, ask me@x"),
        ("http://a:5000: it is away, ask me@x", "http://a:5000: it is away, ask me@x"),
        ("mail me@host, is it 1?", "mail me@host, is it 1?"),
        (r"^(?:upper|lower)(?=.*@)", r"^(?:upper|lower)(?=.*@)"),
    ],
)
def test_addresses(text, shown):
    assert without_secrets(text) == shown


def test_parameters():
    tree = {
        "fetch": {"mirror": "https://a:b@c", "folder": "x", "retries": 5},
        "model": {"class_token": True, "tokens": 8, "token_count": 3, "name": "vit"},
        "store": {"password": 12345, "aws_secret_access_key": "x", "api-key": "y", "secret": None},
        "credentials": {"user": "a", "pin": "b"},
        "urls": ["https://a:b@c", 1.5, None],
        "http": {
            "auth": ["a", "b"],
            "Authorization": "Basic x",
            "author": "me",
            "basic_auth": True,
        },
        "azure": {"connection_string": "AccountKey=x", "sas": "sig=x", "connectionString": "x"},
        "api": {"tokens": ["x", "y"], "secrets": {"a": "b"}, "max_tokens": 8, "api_keys": "x y"},
    }
    assert redacted(tree) == {
        "fetch": {"mirror": "https://***@c", "folder": "x", "retries": 5},
        "model": {"class_token": True, "tokens": 8, "token_count": 3, "name": "vit"},
        "store": {
            "password": "***",
            "aws_secret_access_key": "***",
            "api-key": "***",
            "secret": None,
        },
        "credentials": "***",
        "urls": ["https://***@c", 1.5, None],
        "http": {"auth": "***", "Authorization": "***", "author": "me", "basic_auth": True},
        "azure": {"connection_string": "***", "sas": "***", "connectionString": "***"},
        "api": {"tokens": "***", "secrets": "***", "max_tokens": 8, "api_keys": "***"},
    }
    assert tree["fetch"]["mirror"] == "https://a:b@c"  # a copy
