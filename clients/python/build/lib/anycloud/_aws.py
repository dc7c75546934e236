"""Signing with AWS credentials, for a control plane in an AWS account."""

from __future__ import annotations

from typing import Dict, Mapping

from ._http import Signer
from .errors import AnycloudError


def signer(service: str, region: str) -> Signer:
    """Signs with the credentials that botocore finds, as the AWS CLI would."""
    try:
        from botocore.auth import SigV4Auth
        from botocore.awsrequest import AWSRequest
        from botocore.session import Session
    except ImportError as err:
        raise AnycloudError("this control plane wants AWS signatures: pip install 'anycloud[aws]'") from err
    session = Session()

    def sign(method: str, url: str, headers: Mapping[str, str], body: bytes) -> Dict[str, str]:
        credentials = session.get_credentials()
        if credentials is None:
            raise AnycloudError("no AWS credentials were found: log in as for the AWS CLI")
        request = AWSRequest(method=method, url=url, headers=dict(headers), data=body)
        SigV4Auth(credentials.get_frozen_credentials(), service, region).add_auth(request)
        return dict(request.headers.items())

    return sign
