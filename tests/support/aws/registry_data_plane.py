"""The registry itself (`/v2/`): the identity behind a token, and the permission that each request needs.

ministack's registry stores and serves images for anyone. ECR requires a token of GetAuthorizationToken, treats its
bearer as the identity that requested it, and checks the same actions against the same policies as its API. With that
check, a push by a real client proves a grant. The mapping of requests to actions is ours; the decision is made by
ministack's policy evaluation.
"""

import base64
import binascii
import secrets
import time

import ministack.core.iam_evaluator as evaluator
import ministack.services.ecr as ecr
from ministack.core.responses import get_account_id, get_region, json_response, set_request_account_id
from ministack.core.router import extract_access_key_id

from aws.patching import replaces

TOKEN_SECONDS = 12 * 3600
# token → (the access key that requested it, the second when it expires)
_tokens = {}

_ACTIONS = {
    ("GET", "manifest"): "BatchGetImage",
    ("HEAD", "manifest"): "BatchGetImage",
    ("PUT", "manifest"): "PutImage",
    ("DELETE", "manifest"): "BatchDeleteImage",
    ("HEAD", "blob"): "BatchCheckLayerAvailability",
    ("GET", "blob"): "GetDownloadUrlForLayer",
    ("POST", "blob_uploads"): "InitiateLayerUpload",
    ("GET", "blob_upload_session"): "UploadLayerPart",
    ("PATCH", "blob_upload_session"): "UploadLayerPart",
    ("PUT", "blob_upload_session"): "CompleteLayerUpload",
    ("DELETE", "blob_upload_session"): "UploadLayerPart",
    ("GET", "tags_list"): "ListImages",
    ("GET", "catalog"): "DescribeRepositories",
}


@replaces(ecr, "handle_request")
async def get_authorization_token(original, method, path, headers, body, query):
    if not headers.get("x-amz-target", "").endswith(".GetAuthorizationToken"):
        return await original(method, path, headers, body, query)
    token, end = secrets.token_hex(16), int(time.time()) + TOKEN_SECONDS
    _tokens[token] = (extract_access_key_id(headers, query), end)
    data = {
        "authorizationToken": base64.b64encode(f"AWS:{token}".encode()).decode(),
        "expiresAt": end,
        "proxyEndpoint": f"https://{get_account_id()}.dkr.ecr.{get_region()}.amazonaws.com",
    }
    return json_response({"authorizationData": [data]})


@replaces(ecr, "handle_registry_request")
async def registry(original, method, path, headers, body, query):
    access_key = bearer(headers)
    if not access_key:
        status, answer_headers, answer = ecr._registry_error(401, "UNAUTHORIZED", "Not Authorized")
        challenge = f'Basic realm="https://{headers.get("host", "")}/",service="ecr.amazonaws.com"'
        return status, {**answer_headers, "WWW-Authenticate": challenge}, answer
    # By default, ECR does not mount a layer from another repository. ministack mounts it without checking whether
    # the caller may read it there. Without the parameters, the client uploads the layer.
    query = {name: values for name, values in query.items() if name not in ("mount", "from")}
    account, region = _registry_of(headers, access_key)
    refusal = _refusal(access_key, account, region, *needed(method, path, query))
    if refusal:
        return ecr._registry_error(403, "DENIED", refusal)
    set_request_account_id(account)
    return await original(method, path, headers, body, query)


def bearer(headers):
    """Returns the access key whose token the request contains, or None."""
    scheme, _, encoded = headers.get("authorization", "").partition(" ")
    try:
        _, _, token = base64.b64decode(encoded, validate=True).decode().partition(":")
    except (binascii.Error, UnicodeDecodeError):
        return None
    access_key, end = _tokens.get(token, (None, 0))
    return access_key if scheme.lower() == "basic" and time.time() < end else None


def needed(method, path, query):
    """Returns the repository of a request and the ECR actions that it needs. Without a repository, it only needs a token."""
    verb, repository, _ = ecr._parse_v2_path(path) or ("", "", "")
    if verb in ("", "ping"):
        return "", []
    wanted = [_ACTIONS.get((method.upper(), verb), "Unknown")]
    if verb == "blob_uploads" and "digest" in query:  # all of an upload in one request
        wanted += ["UploadLayerPart", "CompleteLayerUpload"]
    return repository or "*", wanted


def _registry_of(headers, access_key):
    """Returns account and region by the host name, as in AWS. A plain address means the caller's own registry."""
    set_request_account_id(access_key)
    return ecr._registry_scope_hint(headers.get("host")) or (get_account_id(), get_region())


def _refusal(access_key, account, region, repository, wanted):
    set_request_account_id(access_key)  # whose permissions are checked
    # ministack treats a request without an AWS signature as anonymous. The token identifies the caller.
    evaluator._anonymous.set(False)
    arn = f"arn:aws:ecr:{region}:{account}:repository/{repository}"
    for action in wanted:
        denied = evaluator.enforce(access_key, f"ecr:{action}", "ecr", region, arn)
        if isinstance(denied, evaluator.AuthError):
            return denied.message
        if denied:
            return f"User: {denied.principal_arn} is not authorized to perform: ecr:{action} on resource: {arn}"
    return None
