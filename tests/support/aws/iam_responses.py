"""Corrects the fields of IAM's responses.

ministack puts a role's tags into every response that contains a role. In AWS, lists and the role inside an instance
profile omit most fields: an operator that read ownership from there would not find its own roles. ministack also writes
texts into XML without escaping them, which makes a description with `&` unreadable.
"""

from xml.sax.saxutils import escape

import ministack.services.iam as iam

from aws.patching import replaces


@replaces(iam, "_role_xml")
def role_xml(_original, name, boundary=True):
    """Returns a role as XML. ministack's parameter `boundary` means all fields; it is false in lists."""
    role = iam._roles[name]
    xml = (
        _summary(role)
        + f"<Description>{escape(role.get('Description') or '')}</Description>"
        + f"<MaxSessionDuration>{role.get('MaxSessionDuration', 3600)}</MaxSessionDuration>"
    )
    if boundary:
        xml += _boundary(role) + _tags(role) + "<RoleLastUsed/>"
    return xml


@replaces(iam, "_instance_profile_xml")
def instance_profile_xml(_original, name):
    return _profile_xml(iam._instance_profiles[name]) + _tags(iam._instance_profiles[name])


@replaces(iam._IAM_HANDLERS, "ListInstanceProfiles")
def list_instance_profiles(_original, parameters):
    prefix = iam._p(parameters, "PathPrefix") or "/"
    profiles = [profile for profile in iam._instance_profiles.values() if profile["Path"].startswith(prefix)]
    return _profile_list("ListInstanceProfiles", profiles)


@replaces(iam._IAM_HANDLERS, "ListInstanceProfilesForRole")
def list_instance_profiles_for_role(original, parameters):
    name = iam._p(parameters, "RoleName")
    if name not in iam._roles:
        return original(parameters)
    profiles = [profile for profile in iam._instance_profiles.values() if name in profile["Roles"]]
    return _profile_list("ListInstanceProfilesForRole", profiles)


def _profile_list(action, profiles):
    members = "".join(f"<member>{_profile_xml(profile)}</member>" for profile in profiles)
    body = f"<InstanceProfiles>{members}</InstanceProfiles><IsTruncated>false</IsTruncated>"
    return iam._xml(200, f"{action}Response", f"<{action}Result>{body}</{action}Result>")


def _profile_xml(profile):
    roles = "".join(f"<member>{_summary(iam._roles[name])}</member>" for name in profile["Roles"] if name in iam._roles)
    fields = "".join(
        f"<{field}>{profile[field]}</{field}>"
        for field in ("InstanceProfileName", "InstanceProfileId", "Arn", "Path", "CreateDate")
    )
    return f"{fields}<Roles>{roles}</Roles>"


def _summary(role):
    fields = "".join(
        f"<{field}>{role[field]}</{field}>" for field in ("RoleName", "RoleId", "Arn", "Path", "CreateDate")
    )
    trust = iam._url_quote(role["AssumeRolePolicyDocument"], safe="")
    return f"{fields}<AssumeRolePolicyDocument>{trust}</AssumeRolePolicyDocument>"


def _tags(entity):
    members = "".join(
        f"<member><Key>{escape(tag['Key'])}</Key><Value>{escape(tag['Value'])}</Value></member>"
        for tag in entity.get("Tags") or []
    )
    return f"<Tags>{members}</Tags>" if members else ""


def _boundary(role):
    if not role.get("PermissionsBoundary"):
        return ""
    return (
        "<PermissionsBoundary><PermissionsBoundaryType>PermissionsBoundaryPolicy</PermissionsBoundaryType>"
        f"<PermissionsBoundaryArn>{role['PermissionsBoundary']}</PermissionsBoundaryArn></PermissionsBoundary>"
    )
