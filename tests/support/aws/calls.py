"""Identifies a request by its caller's account and its action. The call log and the held requests use this key."""

import json
from typing import NamedTuple
from urllib.parse import parse_qs

import ministack.core.iam_evaluator as evaluator
from ministack.app import _is_ecr_registry_path
from ministack.core.responses import _account_from_sts_session
from ministack.core.router import detect_service, extract_access_key_id

from aws.registry_data_plane import bearer, needed


class Call(NamedTuple):
    service: str
    action: str
    access_key: str  # its ID
    account: str  # the caller's, 12 digits; empty where the key is unknown
    user_agent: str


def describe(scope, body):
    method, path = scope["method"], scope["path"]
    headers = {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in scope["headers"]}
    query = parse_qs(scope["query_string"].decode("latin-1"), keep_blank_values=True)
    if _is_ecr_registry_path(path):
        service, access_key = "ecr-registry", bearer(headers) or ""
        action = "+".join(needed(method, path, query)[1]) or "Ping"
    else:
        access_key = extract_access_key_id(headers, query) or ""
        parameters = {**_form(headers, body), **query}
        service = detect_service(method, path, headers, parameters)
        json_action = headers.get("x-amz-target", "").rpartition(".")[2]
        action = json_action or parameters.get("Action", [f"{method} {path}"])[0]
    return Call(service, action, access_key, _account(access_key), headers.get("user-agent", ""))


def _form(headers, body):
    if not headers.get("content-type", "").startswith("application/x-www-form-urlencoded"):
        return {}
    return parse_qs(body.decode("utf-8", "replace"), keep_blank_values=True)


def _account(access_key):
    if len(access_key) == 12 and access_key.isdigit():
        return access_key
    return _account_from_sts_session(access_key) or evaluator.find_iam_access_key_account(access_key) or ""


def as_json(call, **more):
    """One line of the call log; `account` and `accessKey` are the caller's."""
    named = {
        "service": call.service,
        "action": call.action,
        "accessKey": call.access_key,
        "account": call.account,
        "userAgent": call.user_agent,
    }
    return json.dumps({**named, **more})
