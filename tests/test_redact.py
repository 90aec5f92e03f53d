"""Secrets in addresses and parameters do not get through; everything else does."""

import pytest

from rhs.redact import redacted, without_secrets


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
    }
    assert tree["fetch"]["mirror"] == "https://a:b@c"  # a copy
