"""Policy documents of roles: what IAM refuses on writes, and the quotas."""

import json
import re
from xml.sax.saxutils import escape

import ministack.services.iam as iam

from aws.patching import replaces
from aws.policy_documents import Malformed, check_identity_policy, check_trust_policy
from aws.principals import store_principals

TRUST_POLICY_CHARACTERS = 2048
INLINE_POLICIES_CHARACTERS = 10240  # the total for one role
MANAGED_POLICY_CHARACTERS = 6144
MANAGED_POLICIES_PER_ROLE = 10


@replaces(iam._IAM_HANDLERS, "CreateRole")
def create_role(original, parameters):
    name = iam._p(parameters, "RoleName")
    # Names are unique regardless of case. ministack compares them case-sensitively.
    if any(other.lower() == name.lower() for other in iam._roles):
        return _refused(409, "EntityAlreadyExists", f"Role with name {name} already exists.")
    return _with_trust_policy(original, parameters, "AssumeRolePolicyDocument")


@replaces(iam._IAM_HANDLERS, "UpdateAssumeRolePolicy")
def update_assume_role_policy(original, parameters):
    if iam._p(parameters, "RoleName") not in iam._roles:
        return original(parameters)
    return _with_trust_policy(original, parameters, "PolicyDocument")


def _with_trust_policy(original, parameters, field):
    text = iam._p(parameters, field)
    if iam._trust_policy_not_principal_error(text):
        return original(parameters)  # ministack itself refuses this, with AWS's message
    try:
        document = check_trust_policy(text)
        stored = json.dumps(document) if store_principals(document) else text
    except Malformed as malformed:
        return _refused(400, "MalformedPolicyDocument", malformed)
    if len(text) > TRUST_POLICY_CHARACTERS:
        return _refused(409, "LimitExceeded", f"Cannot exceed quota for ACLSizePerRole: {TRUST_POLICY_CHARACTERS}")
    return original({**parameters, field: [stored]})


@replaces(iam._IAM_HANDLERS, "PutRolePolicy")
def put_role_policy(original, parameters):
    role = iam._roles.get(iam._p(parameters, "RoleName"))
    if not role:
        return original(parameters)
    text = iam._p(parameters, "PolicyDocument")
    try:
        check_identity_policy(text)
    except Malformed as malformed:
        return _refused(400, "MalformedPolicyDocument", malformed)
    documents = {**role["InlinePolicies"], iam._p(parameters, "PolicyName"): text}
    if sum(map(_size, documents.values())) > INLINE_POLICIES_CHARACTERS:
        message = f"Maximum policy size of {INLINE_POLICIES_CHARACTERS} bytes exceeded for role {role['RoleName']}"
        return _refused(409, "LimitExceeded", message)
    return original(parameters)


@replaces(iam._IAM_HANDLERS, "CreatePolicy")
@replaces(iam._IAM_HANDLERS, "CreatePolicyVersion")
def write_managed_policy(original, parameters):
    text = iam._p(parameters, "PolicyDocument")
    try:
        check_identity_policy(text)
    except Malformed as malformed:
        return _refused(400, "MalformedPolicyDocument", malformed)
    if _size(text) > MANAGED_POLICY_CHARACTERS:
        return _refused(409, "LimitExceeded", f"Cannot exceed quota for PolicySize: {MANAGED_POLICY_CHARACTERS}")
    return original(parameters)


@replaces(iam._IAM_HANDLERS, "AttachRolePolicy")
def attach_role_policy(original, parameters):
    """Refuses to attach a policy that does not exist. ministack attaches any name, which then grants nothing."""
    arn = iam._p(parameters, "PolicyArn")
    role = iam._roles.get(iam._p(parameters, "RoleName"))
    if role and not iam._policy_exists(arn):
        return _refused(404, "NoSuchEntity", f"Policy {arn} does not exist or is not attachable.")
    attached = (role or {}).get("AttachedPolicies", [])
    if arn not in attached and len(attached) >= MANAGED_POLICIES_PER_ROLE:
        return _refused(409, "LimitExceeded", f"Cannot exceed quota for PoliciesPerRole: {MANAGED_POLICIES_PER_ROLE}")
    return original(parameters)


@replaces(iam._IAM_HANDLERS, "CreateInstanceProfile")
def create_instance_profile(original, parameters):
    name = iam._p(parameters, "InstanceProfileName")
    if any(other.lower() == name.lower() for other in iam._instance_profiles):
        return _refused(409, "EntityAlreadyExists", f"Instance Profile {name} already exists.")
    return original(parameters)


def _size(text):
    """IAM does not count whitespace in identity policies."""
    return len(re.sub(r"\s", "", text))


def _refused(status, code, message):
    return iam._error(status, code, escape(str(message)))
